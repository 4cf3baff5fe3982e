"""Schedules over stages: the choice of the next stage, its early end, the learning rate within it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import Literal, final

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.errors import BadInput


class StageScheduler(ABC):
    """Chooses the next stage among the remaining ones."""

    @abstractmethod
    def choose(self, done: Sequence[Stage], left: Sequence[Stage], matrix: ScoreMatrix) -> int:
        """Return the index in ``left`` of the stage to train next, as a function of the arguments alone.

        Args:
            done: The stages that have ended; none before the first, which is chosen too.
            left: Those that have not begun, at least two, in the order of the config.
            matrix: Row 0 is the base, row i was measured after the i-th stage of ``done``.
        """


@final
class LeastForgettable(StageScheduler):
    """Train next what the stages so far have harmed least; the most forgettable task comes last.

    The harm to a task is the mean change of its score over the stages that did not train it. No later stage can harm
    the last task, so the last place is worth most to the most forgettable one: the order of Omni-Think's curriculum,
    found in one run instead of one run per task.

    Args:
        prior: Mean change of each task by training on the others, as ``plan`` measures it from single-task runs
            (``others_do_to`` in its ``forgettability.csv``). It speaks for a task that this run has not measured yet,
            so it chooses the first stage. Tasks that are not named have 0: without it, the list's first stage is first.
    """

    def __init__(self, prior: dict[str, float] | None = None) -> None:
        self.prior = prior or {}

    def choose(self, done: Sequence[Stage], left: Sequence[Stage], matrix: ScoreMatrix) -> int:
        """Return the stage whose tasks gained most (or lost least); the first of equals."""
        changes = [fmean(self._change(task, done, matrix) for task in stage.tasks) for stage in left]
        return changes.index(max(changes))

    def _change(self, task: str, done: Sequence[Stage], matrix: ScoreMatrix) -> float:
        rows = matrix.rows
        others = [i for i, stage in enumerate(done) if task not in stage.mixture]
        changes = [rows[i + 1][task].sampled - rows[i][task].sampled for i in others]
        measured = [change for change in changes if not isnan(change)]  # one that could not be scored says nothing
        return fmean(measured) if measured else self.prior.get(task, 0.0)


def best_index(scores: Sequence[float], min_delta: float = 0.0) -> int:
    """Return the index of the best score: the first that no later one exceeds by more than ``min_delta``.

    Args:
        scores: Validation scores of a stage in their order, at least one.
        min_delta: What counts as better.
    """
    best = 0
    for place, score in enumerate(scores):
        if score > scores[best] + min_delta:
            best = place
    return best


def has_plateaued(scores: Sequence[float], patience: int, min_delta: float = 0.0) -> bool:
    """Return whether none of the last ``patience`` scores was better.

    Args:
        scores: As above.
        patience: Number of validations without a better score after which the stage has plateaued.
        min_delta: What counts as better.
    """
    return bool(scores) and len(scores) - 1 - best_index(scores, min_delta) >= patience


Decay = Literal["none", "linear", "cosine"]


@dataclass(frozen=True)
class LearningRateSchedule:
    """A factor of the optimiser's learning rate, as a function of the step: there is no state to lose.

    Over n steps of which the first w are warm-up, at step t = 0, 1, ...: (t + 1) / w during warm-up, then
    floor + (1 - floor) s(p) with p = (t - w) / (n - w) and s = 1 (``none``), 1 - p (``linear``) or
    (1 + cos(pi p)) / 2 (``cosine``; Loshchilov and Hutter 2017, "SGDR").

    Args:
        warmup_steps: w; 0 for none.
        decay: s.
        floor: What the factor tends to, in [0, 1].
        restart: Begin anew with every stage; otherwise n counts the steps of all stages.
    """

    warmup_steps: int = 0
    decay: Decay = "none"
    floor: float = 0.0
    restart: bool = True

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise BadInput(f"learning_rate.warmup_steps is {self.warmup_steps}; use 0 or more")
        if not 0.0 <= self.floor <= 1.0:
            raise BadInput(f"learning_rate.floor is {self.floor}; it is a factor, so use 0 to 1")

    @property
    def constant(self) -> bool:
        """Whether the factor is always 1."""
        return self.decay == "none" and self.warmup_steps == 0

    def factor(self, run: StageRun, step: int) -> float:
        """Return the factor at a zero-based step of the plan, which lies in the stage ``run``."""
        first, end = (run.first_step, run.end_step) if self.restart else (0, run.total_steps)
        now, steps = step - first, end - first
        if now < self.warmup_steps:
            return (now + 1) / self.warmup_steps
        passed = (now - self.warmup_steps) / (steps - self.warmup_steps)
        return self.floor + (1.0 - self.floor) * _shape(self.decay, passed)


def _shape(decay: Decay, passed: float) -> float:
    if decay == "linear":
        return 1.0 - passed
    return (1.0 + math.cos(math.pi * passed)) / 2.0 if decay == "cosine" else 1.0
