"""The rewards of a batch that mixes tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnithink_pl.rewards.rubric import Rubric
    from omnithink_pl.types import Group, Score


def score_batch(
    groups: Sequence[Group], rubrics: Mapping[str, Rubric], timeout: float | None = None
) -> list[list[Score]]:
    """Score every completion with its own task's rewards, those of all tasks at the same time.

    Args:
        groups: Of any tasks, in any order.
        rubrics: The rewards of each task, by name.
        timeout: Seconds after which a reward that has not come back has failed.

    Returns:
        One score per completion, in the order of ``groups`` and their completions.
    """
    own: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        own.setdefault(group.example.task, []).append(i)
    running = {task: rubrics[task].start([groups[i] for i in places]) for task, places in own.items()}
    scores: list[list[Score]] = [[] for _ in groups]
    for task, scoring in running.items():
        for i, row in zip(own[task], scoring.scores(timeout), strict=True):
            scores[i] = row
    return scores
