"""Means over seeds and differences between methods, each with a 95 % interval. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, backward_transfer, forgetting, mean, mean_scores
from omnithink_pl.report.output import row_name
from omnithink_pl.report.results import Method

DRAWS = 10_000
_CHUNK = 1 << 22  # random numbers held at a time
_QUANTILES = (0.025, 0.975)
Stratum = tuple[float, Sequence[float]]  # weight and values of prompts that are resampled among themselves


@dataclass(frozen=True)
class Difference:
    """The difference of two methods."""

    prompts: Estimate  # with an interval over prompts: the paired bootstrap, for these very runs
    seeds: Estimate  # with an interval over seeds: Student's t, for these very prompts
    p: float | None  # two-sided p-value of the bootstrap; ``None`` without prompts

    @property
    def best(self) -> Estimate:
        """With the interval over prompts; over seeds where scores by prompt are missing."""
        return self.prompts if self.prompts.known else self.seeds


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with Student's 95 % interval; no interval for one seed.

    With three seeds the quantile is 4.3: the interval is wide because three runs say little about a fourth.
    """
    if len(values) < 2:
        return Estimate(fmean(values))
    from scipy.stats import t

    half = float(t.ppf(_QUANTILES[1], len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Estimate(fmean(values), fmean(values) - half, fmean(values) + half)


def mean_score(method: Method, scores: Sequence[str]) -> Estimate:
    """Return a method's mean of some scores, with an interval over seeds, or over prompts if it has one seed."""
    found = over_seeds([fmean(method.scores[s][seed] for s in scores) for seed in _common_seeds([method], scores)])
    strata = [(weight, list(_by_prompt(method, name).values())) for name, weight in _weights(method, scores)]
    if found.known or not all(values for _, values in strata):
        return found
    low, high = np.quantile(_resampled_means(strata), _QUANTILES)
    return Estimate(found.value, float(low), float(high))


def has(method: Method, scores: Sequence[str]) -> bool:
    """Whether a method has all of these scores for some seed."""
    return bool(_common_seeds([method], scores))


def difference(method: Method, other: Method, scores: Sequence[str], draws: int = DRAWS) -> Difference:
    """Return ``method`` - ``other`` in the mean of some scores.

    The bootstrap resamples prompts, the same for both methods, within each score, and within each benchmark where a
    score is the mean of several; a prompt's score is its mean over the seeds. The p-value is twice the smaller share
    of draws on one side of zero (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 16).
    """
    seeds = _common_seeds([method, other], scores)
    if seeds:
        paired = [fmean(method.scores[s][seed] - other.scores[s][seed] for s in scores) for seed in seeds]
        by_seed = over_seeds(paired)
    else:  # no seed in common: one was evaluated under another seed
        by_seed = Estimate(mean_score(method, scores).value - mean_score(other, scores).value)
    weights, strata = _weights(method, scores), []
    for name, weight in weights:
        ours, theirs = _by_prompt(method, name), _by_prompt(other, name)
        strata.append((weight, [ours[uid] - theirs[uid] for uid in ours if uid in theirs]))
    if weights != _weights(other, scores) or not all(values for _, values in strata):
        return Difference(Estimate(by_seed.value), by_seed, None)
    drawn = _resampled_means(strata, draws)
    low, high = np.quantile(drawn, _QUANTILES)
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    value = sum(weight * fmean(values) for weight, values in strata)
    p = min(1.0, 2 * (smaller + 1) / (draws + 1))
    return Difference(Estimate(value, float(low), float(high)), by_seed, p)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, which controls the chance of any false claim among them.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(values)
    ascending = np.arange(len(values), 0, -1) * np.asarray(values)[order]
    adjusted = np.minimum(1.0, np.maximum.accumulate(ascending))
    return [float(value) for value in adjusted[np.argsort(order)]]


def mean_rows(matrices: Sequence[ScoreMatrix]) -> dict[str, dict[str, Estimate]]:
    """Return the rows of the mean score matrix by name: each task and the ``mean``, over seeds, cut off at 0 and 1."""
    if len({matrix.labels for matrix in matrices}) != 1:
        raise ValueError("a mean takes score matrices with the same rows, one at least")
    rows: dict[str, dict[str, Estimate]] = {}
    means = [mean_scores(matrix) for matrix in matrices]
    for index, label in enumerate(matrices[0].labels):
        by_seed = [{task: score.sampled for task, score in matrix.rows[index].items()} for matrix in matrices]
        name = row_name(label) if row_name(label) not in rows else f"after {label}"  # a stage may be repeated
        rows[name] = _clipped_over_seeds(by_seed, [own[index] for own in means], 0.0)
    return rows


def mean_losses(matrices: Sequence[ScoreMatrix], trained: Sequence[Sequence[str]]) -> dict[str, dict[str, Estimate]]:
    """Return what each task lost since the base, and since its own stage, with the ``mean``; positive is lost.

    The first is forgetting P_base - P_after. The second, R_own - R_last, is backward transfer with the opposite sign,
    and leaves out the tasks of the last stage. The rows are subtracted within each seed, so that what a seed adds to
    both of them is no part of the intervals. A row without tasks is left out.
    """
    by_name = {
        "forgotten": [forgetting(matrix) for matrix in matrices],
        "lost since its stage": [
            {task: -value for task, value in backward_transfer(matrix, trained).items()} for matrix in matrices
        ],
    }
    return {
        name: _clipped_over_seeds(by_seed, [mean(own) for own in by_seed], -1.0)
        for name, by_seed in by_name.items()
        if by_seed[0]
    }


def _clipped_over_seeds(
    by_seed: Sequence[Mapping[str, float]], means: Sequence[float], low: float
) -> dict[str, Estimate]:
    columns = {**{task: [own[task] for own in by_seed] for task in by_seed[0]}, "mean": means}
    return {name: over_seeds(values).clipped(low, 1.0) for name, values in columns.items()}


def _weights(method: Method, scores: Sequence[str]) -> list[tuple[str, float]]:
    """The scores that have prompts of their own, each with its weight in the plain mean of ``scores``."""
    return [
        (name, 1 / (len(own) * len(scores))) for own in (method.components(score) for score in scores) for name in own
    ]


def _common_seeds(methods: Sequence[Method], scores: Sequence[str]) -> list[int]:
    sets = [set(method.scores.get(score, {})) for method in methods for score in scores]
    return sorted(set.intersection(*sets)) if sets else []


def _by_prompt(method: Method, score: str) -> dict[str, float]:
    """Each prompt's mean over the seeds that have it."""
    found: dict[str, list[float]] = {}
    for prompts in method.prompts.get(score, {}).values():
        for uid, value in prompts.items():
            found.setdefault(uid, []).append(value)
    return {uid: fmean(values) for uid, values in found.items()}


def _resampled_means(strata: Sequence[Stratum], draws: int = DRAWS) -> NDArray[np.float64]:
    """Weighted sum over the strata of the means of their bootstrap samples: shape (draws,)."""
    generator = np.random.default_rng(0)
    total = np.zeros(draws)
    for weight, own in strata:
        values = np.asarray(own, dtype=float)
        step = max(1, _CHUNK // len(values))
        for start in range(0, draws, step):
            size = (min(step, draws - start), len(values))
            total[start : start + step] += weight * values[generator.integers(len(values), size=size)].mean(axis=1)
    return total
