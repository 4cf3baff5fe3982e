"""pass@k: the chance that one of k programs passes."""

from __future__ import annotations

from math import comb
from typing import ClassVar, final

from omnithink_pl.evaluation.intervals import Interval, mean_interval
from omnithink_pl.evaluation.metrics.base import VerdictMetric, Verdicts

KS = (1, 5, 10, 50, 100)


@final
class PassAtK(VerdictMetric):
    """Mean over prompts of the unbiased estimate of pass@k, for every k of 1, 5, 10, 50, 100 that samples allow."""

    key: ClassVar[str] = "pass_at_1"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """``pass_at_1`` and the rest, as far as every prompt has k verdicts."""
        fewest = min(map(len, verdicts))
        found = {self.key: mean_interval(verdicts)}
        for k in KS[1:]:
            if k <= fewest:
                chances = [[pass_at_k(len(scores), sum(map(bool, scores)), k)] for scores in verdicts]
                found[f"pass_at_{k}"] = mean_interval(chances)
        return found


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k programs passes: 1 - C(n-c, k) / C(n, k).

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.

    Args:
        n: Programs drawn, at least k.
        passed: Those that passed, c.
        k: Programs that are allowed.
    """
    if not 0 <= passed <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {passed} in {n} programs makes no sense")
    return 1.0 - comb(n - passed, k) / comb(n, k)
