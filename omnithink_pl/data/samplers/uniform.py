"""Every task alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from omnithink_pl.data.samplers.base import TaskSampler


@final
class UniformSampler(TaskSampler):
    """Every task of the stage is drawn alike, whatever its weight."""

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """1 for each task of the stage."""
        return dict.fromkeys(weights, 1.0)
