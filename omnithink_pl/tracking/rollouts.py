"""Sampled completions as a table: what the policy wrote, what it earned, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnithink_pl.modules.scored import ScoredGroup
from omnithink_pl.types import Outcome, Score, State


def rollout_table(groups: Sequence[ScoredGroup], step: int) -> dict[str, list[Any]]:
    """One row per completion.

    Args:
        groups: Scored groups of one step, of one task or several.
        step: Finished steps.

    Returns:
        Columns of equal length. Each reward component has its own column, such as ``reward/format``: the
        value in [0, 1] where it has one, else its state and the reason, such as ``undefined: no answer
        segment``; ``None`` where the task has no such component.
    """
    rewards = {c.name: None for group in groups for score in group.scores for c in score.components}
    rows = [_row(group, index, step, list(rewards)) for group in groups for index in range(len(group.scores))]
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else ())}


def _row(group: ScoredGroup, index: int, step: int, rewards: list[str]) -> dict[str, Any]:
    example, completion, score = group.group.example, group.group.completions[index], group.scores[index]
    outcomes = {c.name: _cell(c.outcome) for c in score.components}
    return {
        "step": step,
        "task": example.task,
        "uid": example.uid,
        "prompt": "\n".join(message["content"] for message in example.messages),
        "completion": completion.text,
        "tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        **{f"reward/{name}": outcomes.get(name) for name in rewards},
        "total": _total(score),
        "advantage": group.advantages[index],
    }


def _total(score: Score) -> float | str:
    return str(score.state) if score.total is None else round(score.total, 6)


def _cell(outcome: Outcome) -> float | str | None:
    if outcome.state is State.VALUE:
        return outcome.value
    return f"{outcome.state}: {outcome.reason}" if outcome.reason else str(outcome.state)
