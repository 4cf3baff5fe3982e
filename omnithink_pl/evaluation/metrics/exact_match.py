"""Exact match: the share of answers that are a right one to the letter."""

from __future__ import annotations

from typing import ClassVar, final

from omnithink_pl.evaluation.intervals import Interval, mean_interval
from omnithink_pl.evaluation.metrics.base import VerdictMetric, Verdicts


@final
class ExactMatch(VerdictMetric):
    """Share of questions whose answer is a right one; over all questions, which is the micro average of categories.

    What counts as the same text is the reward's to say: ``QAReward`` or ``LetterReward``.
    """

    key: ClassVar[str] = "exact_match"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The share."""
        return {self.key: mean_interval(verdicts)}
