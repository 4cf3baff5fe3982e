"""Scored completions in the terminal: every reward with its value, or why it has none."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.table import Table
from rich.text import Text

from omnithink_pl.modules.scored import ScoredGroup
from omnithink_pl.types import Outcome, Score, State

_SHOWN = 48
_OWN = "own reward"


def reward_table(groups: Sequence[ScoredGroup]) -> Table:
    """A line per completion: the task's own reward first, then the other components, then the total."""
    rows = [(group, i) for group in groups for i in range(len(group.scores))]
    others = list(dict.fromkeys(name for group, i in rows for name in list(_named(group.scores[i]))[1:]))
    table = Table("#", "task", "uid", "completion", _OWN, *others, "total")
    for number, (group, i) in enumerate(rows, 1):
        score = group.scores[i]
        named = _named(score)
        cells = [_cell(score.primary), *(_cell(named[name]) if name in named else "" for name in others)]
        total = str(score.state) if score.total is None else f"{score.total:g}"
        words = [group.task, _end(group.group.example.uid, 20), _end(group.group.completions[i].text, _SHOWN)]
        # As text, not as rich's markup: completions may hold brackets.
        table.add_row(*map(Text, [str(number), *words, *cells, total]))
    return table


def reward_summary(groups: Sequence[ScoredGroup]) -> Table:
    """A line per task and component: mean of the values, how many there are, and how many have none."""
    table = Table("task", "reward", "mean", "values", "undefined", "failed")
    for task in dict.fromkeys(group.task for group in groups):
        scores = [_named(score) for group in groups if group.task == task for score in group.scores]
        for name in scores[0]:
            outcomes = [named[name] for named in scores]
            values = [outcome.value for outcome in outcomes if outcome.value is not None]
            states = [outcome.state for outcome in outcomes]
            mean = f"{fmean(values):.3f}" if values else ""
            counts = [len(values), states.count(State.UNDEFINED), states.count(State.FAILED)]
            table.add_row(task, name, mean, *map(str, counts))
    return table


def _named(score: Score) -> dict[str, Outcome]:
    return {component.name: component.outcome for component in score.components}


def _cell(outcome: Outcome) -> str:
    return f"{outcome.value:g}" if outcome.value is not None else f"{outcome.state}: {outcome.reason}"


def _end(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"…{line[1 - longest :]}"
