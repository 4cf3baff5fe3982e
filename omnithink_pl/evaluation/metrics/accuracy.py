"""Accuracy: the share of right answers."""

from __future__ import annotations

from typing import ClassVar, final

from omnithink_pl.evaluation.intervals import Interval, mean_interval
from omnithink_pl.evaluation.metrics.base import VerdictMetric, Verdicts


@final
class Accuracy(VerdictMetric):
    """Mean over prompts of the share of right completions: with k completions a prompt, avg@k."""

    key: ClassVar[str] = "accuracy"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The accuracy."""
        return {self.key: mean_interval(verdicts)}
