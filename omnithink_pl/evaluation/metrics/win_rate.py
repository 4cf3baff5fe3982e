"""Win rate: how often a judge prefers the policy's text."""

from __future__ import annotations

from typing import ClassVar, final

from omnithink_pl.evaluation.intervals import Interval, mean_interval
from omnithink_pl.evaluation.metrics.base import VerdictMetric, Verdicts


@final
class WinRate(VerdictMetric):
    """Mean verdict of a judge, with 1 for a win, a half for a tie and 0 for a loss; and the raw shares.

    FastChat's ``win_rate_adjusted`` and ``win_rate``.
    """

    key: ClassVar[str] = "win_rate"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """``win_rate``, ``raw`` without ties and ``ties``."""
        return {
            self.key: mean_interval(verdicts),
            "raw": mean_interval([[float(v == 1.0) for v in scores] for scores in verdicts]),
            "ties": mean_interval([[float(v == 0.5) for v in scores] for scores in verdicts]),
        }
