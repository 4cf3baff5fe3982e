"""Order tasks from the least to the most forgettable, by what single-task runs did to the others. Pure arithmetic.

``effects[j, i]`` is the change of task i by training on task j alone. It has two means, and they answer different
questions::

    does_to_others[j] = mean over i != j of effects[j, i]    a task as the cause
    others_do_to[i]   = mean over j != i of effects[j, i]    a task as the victim

Omni-Think's section 5.3 orders tasks by how *forgettable* they are, which is the second; the caption of its Figure 3
describes the first. The numbers that the section prints, "approximately +0.5 %, less than -1 %, around -2 %, around
-4.5 %" for code, math, QA and writing, are the second: from its Table 2 that is +0.53, -0.48, -1.96, -4.57, while the
first is -1.10, -1.78, -3.71, +0.11, which would put writing first and code second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omnithink_pl.curriculum.score_matrix import Estimate

Array = NDArray[np.float64]


def does_to_others(effects: Array) -> Array:
    """Return the mean change of the other tasks by training on each: shape (..., source, target) to (..., source)."""
    return _off_diagonal(effects).sum(axis=-1) / max(1, effects.shape[-1] - 1)


def others_do_to(effects: Array) -> Array:
    """Return the mean change of each task by training on the others: shape (..., source, target) to (..., target)."""
    return _off_diagonal(effects).sum(axis=-2) / max(1, effects.shape[-1] - 1)


def _off_diagonal(effects: Array) -> Array:
    return effects * (1.0 - np.eye(effects.shape[-1]))


@dataclass(frozen=True)
class Forgettability:
    """The tasks in the paper's order, the least forgettable first, with 95 % intervals."""

    order: tuple[str, ...]
    others_do_to: tuple[Estimate, ...]  # mean change of each task of ``order`` by training on the others
    does_to_others: tuple[Estimate, ...]  # mean change of the others by training on it
    ahead: tuple[Estimate, ...]  # ``others_do_to`` of each task less that of the next in the order, at least 0
    agreement: float  # share of the bootstrap samples that give the same order

    @property
    def undecided(self) -> list[tuple[str, str]]:
        """Neighbours in the order whose difference has an interval that holds 0: they may stand the other way round."""
        pairs = zip(pairwise(self.order), self.ahead, strict=True)
        return [pair for pair, ahead in pairs if not ahead.low > 0.0]


def rank_by_forgettability(tasks: Sequence[str], effects: Array, drawn: Array) -> Forgettability:
    """Sort tasks by what others do to them, the most gained (or least lost) first; equals as they are listed.

    Args:
        tasks: In the order of the arrays.
        effects: Shape (tasks, tasks), source first.
        drawn: The same of bootstrap samples: shape (draws, tasks, tasks).
    """
    value, draws = others_do_to(effects), others_do_to(drawn)
    cause, cause_draws = does_to_others(effects), does_to_others(drawn)
    order = [int(task) for task in np.argsort(-value, kind="stable")]
    ahead = [estimate(value[one] - value[other], draws[:, one] - draws[:, other]) for one, other in pairwise(order)]
    same = (np.argsort(-draws, axis=1, kind="stable") == np.array(order)).all(axis=1)
    return Forgettability(
        order=tuple(tasks[task] for task in order),
        others_do_to=tuple(estimate(value[task], draws[:, task]) for task in order),
        does_to_others=tuple(estimate(cause[task], cause_draws[:, task]) for task in order),
        ahead=tuple(ahead),
        agreement=float(same.mean()),
    )


def estimate(value: float, draws: Array) -> Estimate:
    """Return a value with the 95 % interval of its bootstrap samples: shape (draws,)."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))
