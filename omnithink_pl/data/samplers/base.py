"""Which task each prompt of a batch comes from, and which prompts are passed over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from omnithink_pl.modules.scored import ScoredGroup
    from omnithink_pl.types import Example


class TaskSampler(ABC):
    """Mixes the tasks of a stage.

    What it draws is a function of its arguments and of what it has observed. It observes the same in every process,
    and what it keeps of that is saved and restored, so that a resumed run draws what an uninterrupted one would.
    """

    @abstractmethod
    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """How much each task is drawn now.

        Args:
            weights: Those of the stage's tasks, above 0 and not necessarily summing to 1.
            sizes: Training examples of each task.

        Returns:
            A weight of at least 0 for each of these tasks, not necessarily summing to 1.
        """

    def passes_over(self, example: Example, rng: np.random.Generator) -> bool:
        """Whether an example is left for a later pass over its task's rows.

        Args:
            example: The next one of its task.
            rng: For this question alone.
        """
        return False

    def observe(self, trained: Sequence[ScoredGroup], replaced: Sequence[ScoredGroup]) -> None:  # noqa: B027
        """Note what a step was trained on, over all processes.

        Args:
            trained: The batch.
            replaced: Groups that others were sampled for, because they had nothing to teach.
        """

    def metrics(self) -> dict[str, float]:
        """What there is to say about the next step's mixture, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it has observed, as plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Go on from there."""

    @final
    def draw(
        self, weights: Mapping[str, float], sizes: Mapping[str, int], count: int, rng: np.random.Generator
    ) -> list[str]:
        """The task of each of ``count`` prompts, in shuffled order.

        Args:
            weights: The stage's.
            sizes: Training examples of each task.
            count: Prompts in the batch.
            rng: Seeded with the step.
        """
        own = {task: weight for task, weight in weights.items() if weight > 0}
        return systematic(self.mixture(own, sizes), count, rng)


def systematic(mixture: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """Systematic sampling: every batch holds the mixture as nearly as whole prompts allow.

    One uniform offset is drawn and stepped through the cumulated weights, so each task's count is its
    expectation rounded up or down, and over many batches its share is the intended one.

    Args:
        mixture: Weight of each task.
        count: Prompts.
        rng: What is drawn with.
    """
    tasks = list(mixture)
    edges = np.cumsum([mixture[task] for task in tasks])
    points = (rng.random() + np.arange(count)) * (edges[-1] / count)
    chosen = np.minimum(np.searchsorted(edges, points, side="right"), len(tasks) - 1)
    return [tasks[i] for i in rng.permutation(chosen)]
