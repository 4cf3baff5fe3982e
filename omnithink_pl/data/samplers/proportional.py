"""Large data sets more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from omnithink_pl.data.samplers.base import TaskSampler
from omnithink_pl.errors import BadInput


@final
class ProportionalSampler(TaskSampler):
    """Draws a task in proportion to its weight times the number of its training examples, to a power.

    At exponent 1 and equal weights every example is met equally often. Smaller exponents lift small tasks, as is
    usual for data sets of very different sizes; 1/T is the temperature T of mT5 (Xue et al. 2021, arXiv 2010.11934,
    section 3.1).

    Args:
        exponent: 0 leaves the stage's weights, 1 is proportional.
    """

    def __init__(self, exponent: float = 1.0) -> None:
        if not 0.0 <= exponent <= 1.0:
            raise BadInput(f"data.task_sampler.init_args.exponent is {exponent}; it lies between 0 and 1")
        self.exponent = exponent

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """Weight times size to the power of ``exponent``."""
        return {task: weight * sizes[task] ** self.exponent for task, weight in weights.items()}
