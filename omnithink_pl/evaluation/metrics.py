"""95 % confidence intervals of mean scores. Pure arithmetic."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, final
from uuid import uuid4

import datasets
import evaluate

from omnithink_pl.errors import BadInput

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


Verdicts = Sequence[Sequence[float]]
_INPUTS = """
Args:
    verdicts: For each prompt the scores in [0, 1] of its completions; empty where none could be scored.
    categories: For each prompt what it is reported under; empty text where nothing is.
"""


class VerdictMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """Summarises the verdicts of a benchmark.

    ``compute(verdicts=..., categories=...)`` gives the score under the metric's name, its 95 % interval as
    ``low`` and ``high``, further figures of the metric, and ``categories`` with the same for each. Prompts are the
    independent draws: see ``mean_interval``.
    """

    key: ClassVar[str]

    @abstractmethod
    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The score under ``key``, and what else the metric has; prompts without a verdict left out."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "verdicts": datasets.Sequence(datasets.Value("float64")),
            "categories": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
        by_category: dict[str, list[Sequence[float]]] = {}
        rows = [[float(score) for score in scores] for scores in verdicts]
        for scores, category in zip(rows, categories, strict=True):
            if category and scores:
                by_category.setdefault(str(category), []).append(scores)
        return {
            **self.figures([scores for scores in rows if scores]),
            "categories": {name: self.figures(own)[self.key] for name, own in sorted(by_category.items())},
        }


def summarise(metric: type[VerdictMetric], verdicts: Verdicts, categories: Sequence[str]) -> dict[str, Any]:
    """Compute a metric without a trace: in memory, under an identity of its own.

    Args:
        metric: The metric.
        verdicts: As ``VerdictMetric.compute`` has it.
        categories: As long as ``verdicts``.

    Raises:
        BadInput: If no prompt has a verdict.
    """
    if not any(verdicts):
        raise BadInput("no completion has a verdict; see why the rewards failed")
    with TemporaryDirectory() as directory:
        found = metric(keep_in_memory=True, cache_dir=directory, experiment_id=uuid4().hex)
        rows = [[float(score) for score in scores] for scores in verdicts]
        return found.compute(verdicts=rows, categories=list(categories))


@final
class Accuracy(VerdictMetric):
    """Mean over prompts of the share of right completions: with k completions a prompt, avg@k."""

    key: ClassVar[str] = "accuracy"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The accuracy."""
        return {self.key: mean_interval(verdicts)}


@final
class ExactMatch(VerdictMetric):
    """Share of questions whose answer is a right one; over all questions, which is the micro average of categories.

    What counts as the same text is the reward's to say: ``QAReward`` or ``LetterReward``.
    """

    key: ClassVar[str] = "exact_match"

    def figures(self, verdicts: Verdicts) -> dict[str, Interval]:
        """The share."""
        return {self.key: mean_interval(verdicts)}


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


__all__ = ["Accuracy", "ExactMatch", "PassAtK", "VerdictMetric", "WinRate", "metric_called", "summarise"]


def metric_called(name: str) -> type[VerdictMetric]:
    """The metric that a task names."""
    metrics: tuple[type[VerdictMetric], ...] = (Accuracy, ExactMatch, PassAtK, WinRate)
    for metric in metrics:
        if metric.key == name:
            return metric
    raise ValueError(f"a task's metric is one of {', '.join(m.key for m in metrics)}, not {name!r}")
