"""Means over seeds and differences between methods, each with an interval. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from omnithink_pl.report.results import ByPrompt, Method

DRAWS = 10_000
_CHUNK = 1 << 22  # random numbers held at a time


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; both ends infinite where nothing is known of it."""

    value: float
    low: float = -inf
    high: float = inf

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low > -inf


@dataclass(frozen=True)
class Difference:
    """How far a method is from another.

    Args:
        prompts: The difference, with an interval over prompts: the paired bootstrap, for these very runs.
        seeds: The same over seeds: Student's t, for these very prompts.
        p: Two-sided p-value of the bootstrap; ``None`` without prompts.
    """

    prompts: Estimate
    seeds: Estimate
    p: float | None

    @property
    def beyond_seeds(self) -> bool:
        """Whether other seeds would hardly turn it round."""
        return self.seeds.known and not self.seeds.low <= 0.0 <= self.seeds.high


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's 95 % interval; no interval for one seed.

    With three seeds the quantile is 4.3: the interval is wide because three runs say little about a fourth.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean)
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach)


def mean_score(method: Method, scores: Sequence[str]) -> Estimate:
    """A method's mean of some scores, with its interval over seeds, or over prompts if it has one seed."""
    seeds = _common_seeds([method], scores)
    found = over_seeds([fmean(method.scores[score][seed] for score in scores) for seed in seeds])
    if found.known:
        return found
    strata = [_Stratum(weight, list(_by_prompt(method, part).values())) for part, weight in _parts(method, scores)]
    if not all(stratum.values for stratum in strata):
        return found
    low, high = np.quantile(_resampled_means(strata), [0.025, 0.975])
    return Estimate(found.value, float(low), float(high))


def has(method: Method, scores: Sequence[str]) -> bool:
    """Whether a method has all of these scores for some seed."""
    return bool(_common_seeds([method], scores))


def difference(method: Method, other: Method, scores: Sequence[str], draws: int = DRAWS) -> Difference:
    """``method`` - ``other`` in the mean of some scores.

    The bootstrap draws prompts anew, the same for both methods, within each score, and within each benchmark where a
    score is the mean of several; a prompt's score is its mean over the seeds. The p-value is twice the smaller share
    of draws on one side of zero (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 16).

    Args:
        method: Has the scores.
        other: Has them too.
        scores: Their plain mean is compared.
        draws: Bootstrap samples.
    """
    seeds = _common_seeds([method, other], scores)
    if seeds:
        paired = [fmean(method.scores[s][seed] - other.scores[s][seed] for s in scores) for seed in seeds]
        by_seed = over_seeds(paired)
    else:  # no seed in common: one was evaluated under another seed
        by_seed = Estimate(mean_score(method, scores).value - mean_score(other, scores).value)
    parts = _parts(method, scores)
    strata = [_Stratum(weight, _paired(method, other, part)) for part, weight in parts]
    if parts != _parts(other, scores) or not all(stratum.values for stratum in strata):
        return Difference(Estimate(by_seed.value), by_seed, None)
    drawn = _resampled_means(strata, draws)
    low, high = np.quantile(drawn, [0.025, 0.975])
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (draws + 1))
    value = sum(stratum.weight * fmean(stratum.values) for stratum in strata)
    return Difference(Estimate(value, float(low), float(high)), by_seed, p)


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, so that one false claim among all is as rare as one alone would be.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    ranked = sorted(range(len(values)), key=lambda index: values[index])
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(ranked):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class _Stratum:
    """Prompts that are drawn among themselves, and what their mean counts."""

    weight: float
    values: Sequence[float]


def _parts(method: Method, scores: Sequence[str]) -> list[tuple[str, float]]:
    """The scores that have prompts of their own, each with its weight in the plain mean of ``scores``."""
    parts = [method.parts(score) for score in scores]
    return [(part, 1 / (len(own) * len(scores))) for own in parts for part in own]


def _common_seeds(methods: Sequence[Method], scores: Sequence[str]) -> list[int]:
    sets = [set(method.scores.get(score, {})) for method in methods for score in scores]
    return sorted(set.intersection(*sets)) if sets else []


def _by_prompt(method: Method, score: str) -> dict[str, float]:
    """Each prompt's mean over the seeds that have it."""
    found: dict[str, list[float]] = {}
    by_seed: Mapping[int, ByPrompt] = method.prompts.get(score, {})
    for prompts in by_seed.values():
        for uid, value in prompts.items():
            found.setdefault(uid, []).append(value)
    return {uid: fmean(values) for uid, values in found.items()}


def _paired(method: Method, other: Method, score: str) -> list[float]:
    """Differences on the prompts that both have."""
    ours, theirs = _by_prompt(method, score), _by_prompt(other, score)
    return [ours[uid] - theirs[uid] for uid in ours if uid in theirs]


def _resampled_means(strata: Sequence[_Stratum], draws: int = DRAWS) -> NDArray[np.float64]:
    """Weighted sum over the strata of the means of their bootstrap samples: shape (draws,)."""
    generator = np.random.default_rng(0)
    total = np.zeros(draws)
    for stratum in strata:
        values = np.asarray(stratum.values, dtype=float)
        step = max(1, _CHUNK // len(values))
        for start in range(0, draws, step):
            size = (min(step, draws - start), len(values))
            drawn = values[generator.integers(len(values), size=size)].mean(axis=1)
            total[start : start + step] += stratum.weight * drawn
    return total
