"""95 % confidence intervals of mean scores. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A mean in [0, 1] with the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(prompts: Sequence[Sequence[float]]) -> Interval:
    """Mean score over prompts, each of which may have several completions.

    Completions of one prompt are alike, so prompts, not completions, are the independent draws (a cluster
    sample). The mean is that of the per-prompt means m_i, with variance v = sum (m_i - mean)^2 / n^2. The
    interval is Wilson's at the number of independent 0/1 draws that would have this variance, mean (1 -
    mean) / v, as Korn and Graubard 1998 propose for surveys ("Confidence Intervals for Proportions with
    Small Expected Number of Positive Counts"). With one 0/1 score a prompt it is Wilson's own; it stays
    inside [0, 1] and keeps a width where all prompts agree.

    Args:
        prompts: Scores in [0, 1] of each prompt's completions; prompts without any are left out.

    Raises:
        ValueError: If no prompt has a score.
    """
    scored = [scores for scores in prompts if scores]
    if not scored:
        raise ValueError("no completion has a score; see the failures that the rewards report")
    means = [sum(scores) / len(scores) for scores in scored]
    mean = sum(means) / len(means)
    squares = sum((value - mean) ** 2 for value in means)
    draws = float(len(means))
    if squares > 0.0:
        # Never more draws than completions, however alike a few prompts happen to be.
        draws = min(draws * draws * mean * (1.0 - mean) / squares, float(sum(map(len, scored))))
    return Interval(mean, *wilson(mean, draws))


def wilson(mean: float, draws: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Args:
        mean: The proportion, in [0, 1].
        draws: Independent draws behind it; need not be whole.
    """
    scale = 1.0 + Z * Z / draws
    centre = (mean + Z * Z / (2.0 * draws)) / scale
    reach = Z * sqrt(mean * (1.0 - mean) / draws + Z * Z / (4.0 * draws * draws)) / scale
    return min(mean, max(0.0, centre - reach)), max(mean, min(1.0, centre + reach))
