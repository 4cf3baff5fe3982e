"""What was learned and what was forgotten: the score matrix and what follows from it. Pure arithmetic.

Row 0 of the matrix holds the base model's scores, row i those after stage i. Scores are
fractions in [0, 1]. A task whose rewards failed too often was not measured: its scores are not numbers (NaN), and
neither is anything that would need them, such as a mean over all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan, sqrt
from typing import Any, Literal

Kind = Literal["sampled", "greedy"]


@dataclass(frozen=True)
class TaskScore:
    """One task's mean score on held-out prompts, with 95 % intervals.

    Args:
        sampled: Mean score of completions drawn at temperature 1.
        sampled_low: Lower end of its interval.
        sampled_high: Upper end of its interval.
        greedy: Mean score of greedy completions.
        greedy_low: Lower end of its interval.
        greedy_high: Upper end of its interval.
        prompts: Prompts evaluated.
        samples: Sampled completions per prompt.
        undefined: Share of sampled completions without a score, such as no answer; they count as 0.
        failed: Share of all completions, sampled and greedy, that we could not score; they are left out.
    """

    sampled: float
    sampled_low: float
    sampled_high: float
    greedy: float
    greedy_low: float
    greedy_high: float
    prompts: int
    samples: int
    undefined: float = 0.0
    failed: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether it is a score at all."""
        return not (isnan(self.sampled) or isnan(self.greedy))

    def value(self, kind: Kind = "sampled") -> float:
        """The mean score of a kind."""
        return self.sampled if kind == "sampled" else self.greedy

    def interval(self, kind: Kind = "sampled") -> tuple[float, float]:
        """Lower and upper end of the 95 % interval of a kind."""
        if kind == "sampled":
            return self.sampled_low, self.sampled_high
        return self.greedy_low, self.greedy_high


@dataclass(frozen=True)
class Change:
    """A difference of two scores with its 95 % interval."""

    value: float
    low: float
    high: float


Row = Mapping[str, TaskScore]


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of every task, before training and after each stage.

    Args:
        labels: Name of each row: ``base``, then ``1 code`` and so on.
        rows: The scores of all tasks, one mapping a row.
    """

    labels: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()

    def add(self, label: str, scores: Row) -> ScoreMatrix:
        """The matrix with one row more.

        Raises:
            ValueError: If the label is taken, or the tasks are not those of row 0.
        """
        if label in self.labels:
            raise ValueError(f"the score matrix has a row {label!r} already; labels are unique")
        if self.rows and set(scores) != set(self.rows[0]):
            raise ValueError(f"row {label!r} has the tasks {sorted(scores)}, row 0 has {sorted(self.rows[0])}")
        return ScoreMatrix((*self.labels, label), (*self.rows, dict(scores)))

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order of row 0."""
        return list(self.rows[0]) if self.rows else []

    def values(self, kind: Kind = "sampled") -> list[list[float]]:
        """Scores as a plain table: one list a row, in the order of ``tasks``."""
        return [[row[task].value(kind) for task in self.tasks] for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, for JSON and checkpoints; what was not measured is ``None``."""
        rows = [{task: _plain(score) for task, score in row.items()} for row in self.rows]
        return {"labels": list(self.labels), "rows": rows}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ScoreMatrix:
        """The matrix that ``to_dict`` described."""
        rows = ({task: _score(score) for task, score in row.items()} for row in plain["rows"])
        return cls(tuple(plain["labels"]), tuple(rows))


def _plain(score: TaskScore) -> dict[str, Any]:
    return {key: None if isnan(value) else value for key, value in asdict(score).items()}


def _score(plain: Mapping[str, Any]) -> TaskScore:
    numbers: dict[str, Any] = {key: nan if value is None else value for key, value in plain.items()}
    return TaskScore(**numbers)


def mean(values: Mapping[str, float]) -> float:
    """Mean over tasks.

    Raises:
        ValueError: If there are none.
    """
    if not values:
        raise ValueError("no task to take a mean over")
    return sum(values.values()) / len(values)


def mean_scores(matrix: ScoreMatrix, kind: Kind = "sampled") -> list[float]:
    """Mean over the tasks, for each row."""
    return [mean({task: score.value(kind) for task, score in row.items()}) for row in matrix.rows]


def forgetting(matrix: ScoreMatrix, kind: Kind = "sampled") -> dict[str, float]:
    """P_base,j - P_after,j for each task j, positive when forgotten.

    Omni-Think's measure and sign (its "BWT"): row 0 against the last row. A task that was
    learned has a negative value. Empty before the first stage has ended.
    """
    return {task: -change.value for task, change in changes(matrix, kind).items()}


def changes(matrix: ScoreMatrix, kind: Kind = "sampled") -> dict[str, Change]:
    """P_after,j - P_base,j for each task j with its interval; empty before the first stage has ended."""
    if len(matrix.rows) < 2:
        return {}
    first, last = matrix.rows[0], matrix.rows[-1]
    return {task: difference(first[task], last[task], kind) for task in matrix.tasks}


def difference(before: TaskScore, after: TaskScore, kind: Kind = "sampled") -> Change:
    """``after`` - ``before`` with a 95 % interval, the two taken as independent.

    Method 10 of Newcombe 1998, "Interval estimation for the difference between independent proportions":
    the distances of each score to the ends of its interval, added in squares. Both rows are measured on
    the same prompts, so the interval errs on the wide side.
    """
    old, new = before.value(kind), after.value(kind)
    (old_low, old_high), (new_low, new_high) = before.interval(kind), after.interval(kind)
    value = new - old
    if isnan(value):
        return Change(nan, nan, nan)
    down = sqrt((new - new_low) ** 2 + (old_high - old) ** 2)
    up = sqrt((new_high - new) ** 2 + (old - old_low) ** 2)
    return Change(value, max(-1.0, value - down), min(1.0, value + up))


def backward_transfer(
    matrix: ScoreMatrix, trained: Sequence[Sequence[str]], kind: Kind = "sampled"
) -> dict[str, float]:
    """R_last,j - R_own,j for each task j that was trained before the last stage; negative when forgotten.

    Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning", section 2; their BWT is
    the mean of these values. R_own is the score after the last stage that trained task j.

    Args:
        matrix: Row 0 for the base, then one row a stage that has ended.
        trained: The tasks that each stage trained.
        kind: ``sampled`` or ``greedy``.

    Raises:
        ValueError: If the matrix has more rows than stages and base.
    """
    ended = len(matrix.rows) - 1
    if ended > len(trained):
        raise ValueError(f"the score matrix has {ended} rows after the base, but there are {len(trained)} stages")
    own = {task: stage for stage, tasks in enumerate(trained[: max(ended, 0)], 1) for task in tasks}
    return {
        task: matrix.rows[-1][task].value(kind) - matrix.rows[stage][task].value(kind)
        for task, stage in own.items()
        if stage < ended
    }
