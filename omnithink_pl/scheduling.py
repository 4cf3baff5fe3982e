"""Choosing the next stage while training goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import isnan
from statistics import fmean
from typing import final

from omnithink_pl.curriculum import Stage
from omnithink_pl.transfer import ScoreMatrix


class StageScheduler(ABC):
    """Chooses which of the stages that are left comes next."""

    @abstractmethod
    def choose(self, done: Sequence[Stage], left: Sequence[Stage], matrix: ScoreMatrix) -> int:
        """The place in ``left`` of the stage to train next, as a function of the arguments alone.

        Args:
            done: The stages that have ended, at least one.
            left: Those that have not begun, at least two, in the order of the config.
            matrix: Row 0 is the base, row i was measured after the i-th stage of ``done``.
        """


@final
class LeastForgettable(StageScheduler):
    """Train next what the stages so far have harmed least; what is easily forgotten comes last.

    The harm to a task is measured while others are trained: the mean change of its score over the stages that
    did not train it. A task that comes last is harmed by no one, so the place at the end is worth most to the
    task that suffers most: the order of Omni-Think's curriculum, found in one run instead of one run per task.
    """

    def choose(self, done: Sequence[Stage], left: Sequence[Stage], matrix: ScoreMatrix) -> int:
        """The stage whose tasks changed by the most, upwards; the first of equals."""
        changes = [fmean(_change(task, done, matrix) for task in stage.tasks) for stage in left]
        return changes.index(max(changes))


def _change(task: str, done: Sequence[Stage], matrix: ScoreMatrix) -> float:
    rows = matrix.rows
    others = [i for i, stage in enumerate(done) if task not in stage.mixture]
    changes = [rows[i + 1][task].sampled - rows[i][task].sampled for i in others]
    measured = [change for change in changes if not isnan(change)]  # one that could not be scored says nothing
    return fmean(measured) if measured else 0.0
