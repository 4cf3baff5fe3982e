"""The rewards of a batch that mixes tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.rewards.scoring import covered

if TYPE_CHECKING:
    from omnithink_pl.rewards.rubric import Rubric
    from omnithink_pl.rewards.scoring import Scoring
    from omnithink_pl.types import Group, Score


@final
class BatchScoring:
    """Scores the groups of a batch by their own tasks' rewards, those of all tasks at the same time.

    A group is scored as soon as it is added, while others are still being sampled.

    Args:
        rubrics: The rewards of each task, by name.
    """

    def __init__(self, rubrics: Mapping[str, Rubric]) -> None:
        self._rubrics = rubrics
        self._scorings: dict[str, Scoring] = {}

    def add(self, groups: Mapping[int, Group]) -> None:
        """Begin to score groups, given by their places in the batch."""
        for task in dict.fromkeys(group.example.task for group in groups.values()):
            scoring = self._scorings.setdefault(task, self._rubrics[task].open())
            scoring.add({place: group for place, group in groups.items() if group.example.task == task})

    def complete(self) -> None:
        """Say that the batch is there: rewards that compare its groups begin."""
        for scoring in self._scorings.values():
            scoring.complete()

    def scores(self, timeout: float | None = None) -> list[list[Score]]:
        """Wait for one score per completion, in the order of the groups' places and their completions.

        Args:
            timeout: Seconds since the batch was complete after which a reward that has not come back has failed.
        """
        found = {place: row for scoring in self._scorings.values() for place, row in scoring.scores(timeout).items()}
        return [row for _, row in sorted(found.items())]

    def seconds_at_work(self) -> float:
        """Seconds until now in which at least one reward was at work."""
        now = time.monotonic()
        return covered((span for scoring in self._scorings.values() for span in scoring.spans(now)), now)


def score_batch(
    groups: Sequence[Group], rubrics: Mapping[str, Rubric], timeout: float | None = None
) -> list[list[Score]]:
    """Score every completion of a batch that is there.

    Args:
        groups: Of any tasks, in any order.
        rubrics: The rewards of each task, by name.
        timeout: Seconds after which a reward that has not come back has failed.

    Returns:
        One score per completion, in the order of ``groups`` and their completions.
    """
    scoring = BatchScoring(rubrics)
    scoring.add(dict(enumerate(groups)))
    scoring.complete()
    return scoring.scores(timeout)
