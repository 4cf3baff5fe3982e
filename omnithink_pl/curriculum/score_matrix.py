"""The score matrix, and the forgetting and backward transfer computed from it. Pure arithmetic.

Row 0 holds the base model's scores, row i those after stage i. Scores are fractions in [0, 1]; everything computed from
them uses those sampled at temperature 1. A task of which too many rewards failed was not measured: its scores are NaN,
and so is everything computed from them, such as a mean over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import hypot, inf, isnan, nan
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; both ends are infinite where no interval is known."""

    value: float
    low: float = -inf
    high: float = inf

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low > -inf

    def clipped(self, low: float, high: float) -> Estimate:
        """Return the estimate with the ends of its interval cut off at the ends of the scale."""
        return Estimate(self.value, max(low, self.low), min(high, self.high)) if self.known else self


@dataclass(frozen=True)
class TaskScore:
    """One task's mean score on held-out prompts, with 95 % intervals."""

    sampled: float  # mean score of completions sampled at temperature 1
    sampled_low: float
    sampled_high: float
    greedy: float  # mean score of greedy completions
    greedy_low: float
    greedy_high: float
    prompts: int
    samples: int  # sampled completions per prompt
    undefined: float = 0.0  # share of sampled completions without a score, such as no answer; they count as 0
    failed: float = 0.0  # share of all completions, sampled and greedy, whose reward failed; they are left out

    @property
    def measured(self) -> bool:
        """Whether both scores are numbers."""
        return not (isnan(self.sampled) or isnan(self.greedy))

    @property
    def estimate(self) -> Estimate:
        """The sampled score with its interval."""
        return Estimate(self.sampled, self.sampled_low, self.sampled_high)


Row = Mapping[str, TaskScore]


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of every task, before training and after each stage."""

    labels: tuple[str, ...] = ()  # name of each row: ``base``, then ``1 code`` and so on
    rows: tuple[Row, ...] = ()  # the scores of all tasks, one mapping a row

    def add(self, label: str, scores: Row) -> ScoreMatrix:
        """Return the matrix with one row more; refuses a label that is taken, and tasks that are not those of row 0."""
        if label in self.labels:
            raise ValueError(f"the score matrix has a row {label!r} already; labels are unique")
        if self.rows and set(scores) != set(self.rows[0]):
            raise ValueError(f"row {label!r} has the tasks {sorted(scores)}, row 0 has {sorted(self.rows[0])}")
        return ScoreMatrix((*self.labels, label), (*self.rows, dict(scores)))

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order of row 0."""
        return list(self.rows[0]) if self.rows else []

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, for JSON and checkpoints; NaN becomes ``None``."""
        rows = [
            {task: {key: None if isnan(v) else v for key, v in asdict(score).items()} for task, score in row.items()}
            for row in self.rows
        ]
        return {"labels": list(self.labels), "rows": rows}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ScoreMatrix:
        """Return the matrix that ``to_dict`` described."""

        def score(values: Mapping[str, Any]) -> TaskScore:
            numbers: Any = {key: nan if value is None else value for key, value in values.items()}
            return TaskScore(**numbers)

        rows = ({task: score(values) for task, values in row.items()} for row in plain["rows"])
        return cls(tuple(plain["labels"]), tuple(rows))


def mean(values: Mapping[str, float]) -> float:
    """Return the mean over tasks, of which there must be one."""
    if not values:
        raise ValueError("no task to take a mean over")
    return sum(values.values()) / len(values)


def mean_estimate(estimates: Mapping[str, Estimate]) -> Estimate:
    """Return the mean over tasks, measured independently of each other, with its 95 % interval if all have one.

    The distances of each value to the ends of its interval are added in squares, as for ``difference``.
    """
    average = mean({task: found.value for task, found in estimates.items()})
    if not all(found.known for found in estimates.values()):
        return Estimate(average)
    down = hypot(*(found.value - found.low for found in estimates.values())) / len(estimates)
    up = hypot(*(found.high - found.value for found in estimates.values())) / len(estimates)
    return Estimate(average, average - down, average + up)


def mean_scores(matrix: ScoreMatrix) -> list[Estimate]:
    """Return the mean over the tasks of each row."""
    return [mean_estimate({task: score.estimate for task, score in row.items()}) for row in matrix.rows]


def forgetting(matrix: ScoreMatrix) -> dict[str, float]:
    """Return P_base,j - P_after,j for each task j, positive when forgotten.

    Omni-Think's measure and sign (its "BWT"): row 0 minus the last row. A learned task has a negative value. Empty
    before the first stage has ended.
    """
    return {task: -change.value for task, change in changes(matrix).items()}


def changes(matrix: ScoreMatrix) -> dict[str, Estimate]:
    """Return P_after,j - P_base,j for each task j with its interval; empty before the first stage has ended.

    Both rows are measured on the same prompts but taken as independent, so the intervals err on the wide side.
    """
    if len(matrix.rows) < 2:
        return {}
    first, last = matrix.rows[0], matrix.rows[-1]
    return {task: difference(first[task].estimate, last[task].estimate) for task in matrix.tasks}


def difference(before: Estimate, after: Estimate) -> Estimate:
    """Return ``after`` - ``before``, two independent estimates, with a 95 % interval if both have one.

    Method 10 of Newcombe 1998, "Interval estimation for the difference between independent proportions": the distances
    of each value to the ends of its interval, added in squares. Within [-1, 1] if both intervals are within [0, 1].
    """
    value = after.value - before.value
    if not (before.known and after.known):
        return Estimate(value)
    down = hypot(after.value - after.low, before.high - before.value)
    up = hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, value - down, value + up)


def backward_transfer(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return R_last,j - R_own,j for each task j that was trained before the last stage; negative when forgotten.

    R_own is the score after the last stage that trained task j. Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory
    for Continual Learning", section 2; their BWT is the mean of these values. ``trained`` are the tasks of each stage,
    which may be more than have ended.
    """
    ended = len(matrix.rows) - 1
    if ended > len(trained):
        raise ValueError(f"the score matrix has {ended} rows after the base, but there are {len(trained)} stages")
    own = {task: stage for stage, tasks in enumerate(trained[: max(ended, 0)], 1) for task in tasks}
    return {
        task: matrix.rows[-1][task].sampled - matrix.rows[stage][task].sampled
        for task, stage in own.items()
        if stage < ended
    }
