"""Which task each prompt of a batch comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np


class TaskSampler(ABC):
    """Draws the tasks of one batch."""

    @abstractmethod
    def draw(self, weights: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
        """The task of each of ``count`` prompts.

        Args:
            weights: The stage's mixture, not necessarily summing to 1.
            count: Prompts in the batch.
            rng: Seeded with (seed, step): the draw is a function of the step.
        """


class StratifiedTaskSampler(TaskSampler):
    """Systematic sampling: every batch holds the mixture as nearly as whole prompts allow.

    One uniform offset is drawn and stepped through the cumulated weights, so each task's count is its
    expectation rounded up or down, and over many batches its share is the intended one.
    """

    def draw(self, weights: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
        """The task of each of ``count`` prompts, in shuffled order."""
        tasks = list(weights)
        edges = np.cumsum([weights[task] for task in tasks])
        points = (rng.random() + np.arange(count)) * (edges[-1] / count)
        chosen = np.minimum(np.searchsorted(edges, points, side="right"), len(tasks) - 1)
        return [tasks[i] for i in rng.permutation(chosen)]
