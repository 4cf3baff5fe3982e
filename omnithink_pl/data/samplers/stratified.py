"""The stage's own weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from omnithink_pl.data.samplers.base import TaskSampler


@final
class StratifiedTaskSampler(TaskSampler):
    """Every batch holds the stage's mixture as nearly as whole prompts allow: the default."""

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        """The stage's weights."""
        return dict(weights)
