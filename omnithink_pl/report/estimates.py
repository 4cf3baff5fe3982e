"""Means over seeds and differences between methods, each with a 95 % interval. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import fmean, stdev

import numpy as np

from omnithink_pl.curriculum.forgettability import Array
from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, backward_transfer, forgetting, mean, mean_scores
from omnithink_pl.report.output import row_name
from omnithink_pl.report.results import Method

DRAWS = 10_000
_CHUNK = 1 << 22  # random numbers held at a time
_QUANTILES = (0.025, 0.975)
Stratum = tuple[float, Array]  # weight and values of prompts that are resampled among themselves: (prompts, ...)


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
    strata = [(weight, np.array(list(_by_prompt(method, name).values()))) for name, weight in _weights(method, scores)]
    if found.known or not all(len(values) for _, values in strata):
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
    strata = [(weight, pairs[:, 0] - pairs[:, 1]) for weight, pairs in _paired_strata(method, other, scores)]
    if not strata:
        return Difference(Estimate(by_seed.value), by_seed, None)
    value = sum(weight * float(own.mean()) for weight, own in strata)
    return _from_bootstrap(value, _resampled_means(strata, draws), by_seed)


def _from_bootstrap(value: float, drawn: Array, by_seed: Estimate) -> Difference:
    """Return a difference with the quantiles and the p-value of its bootstrap samples: shape (draws,)."""
    low, high = np.quantile(drawn, _QUANTILES)
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))
    return Difference(Estimate(value, float(low), float(high)), by_seed, p)


def relative_gain(method: Method, other: Method, scores: Sequence[str], draws: int = DRAWS) -> Difference:
    """Return the mean over the scores of a / b - 1, where ``method`` has a and ``other`` b: the paper's headline.

    The bootstrap is that of :func:`difference`; each sample of the prompts gives both scores of a ratio. NaN where
    ``other`` has a score of 0, of which nothing is a share; no interval where a sample of its prompts has.
    """
    seeds = _common_seeds([method, other], scores)
    paired = [fmean(_gain(method.scores[s][seed], other.scores[s][seed]) for s in scores) for seed in seeds]
    by_score = [_paired_strata(method, other, [score]) for score in scores]
    if not all(by_score):
        value = fmean(_gain(mean_score(method, [s]).value, mean_score(other, [s]).value) for s in scores)
        return Difference(Estimate(value), over_seeds(paired) if paired else Estimate(value), None)
    centres = [np.sum([weight * pairs.mean(axis=0) for weight, pairs in strata], axis=0) for strata in by_score]
    value = fmean(_gain(float(ours), float(theirs)) for ours, theirs in centres)
    by_seed = over_seeds(paired) if paired else Estimate(value)
    generator = np.random.default_rng(0)
    drawn = np.stack([_resampled_means(strata, draws, generator) for strata in by_score])  # (scores, draws, 2)
    if not (drawn[..., 1] > 0.0).all():
        return Difference(Estimate(value), by_seed, None)
    return _from_bootstrap(value, (drawn[..., 0] / drawn[..., 1] - 1.0).mean(axis=0), by_seed)


def _gain(ours: float, theirs: float) -> float:
    return ours / theirs - 1.0 if theirs > 0.0 else nan


def average(methods: Sequence[Method], score: str) -> Method:
    """Return a method whose score, by seed and by prompt, is the mean of those that all of ``methods`` have."""
    names = methods[0].components(score)
    own = {
        name: {seed: fmean(m.scores[name][seed] for m in methods) for seed in _common_seeds(methods, [name])}
        for name in {*names, score}
    }
    prompts = {}
    for name in names:
        by_uid = [_by_prompt(one, name) for one in methods]
        uids = set(by_uid[0]).intersection(*by_uid)
        prompts[name] = {0: {uid: fmean(one[uid] for one in by_uid) for uid in by_uid[0] if uid in uids}}
    return Method("average", own, prompts)


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
        rows[name] = _clipped_over_seeds(by_seed, [own[index].value for own in means], 0.0)
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


def _paired_strata(method: Method, other: Method, scores: Sequence[str]) -> list[Stratum]:
    """Both methods' scores of each prompt that both have: shape (prompts, 2); empty where a score has none."""
    weights, strata = _weights(method, scores), []
    for name, weight in weights:
        ours, theirs = _by_prompt(method, name), _by_prompt(other, name)
        strata.append((weight, np.array([(ours[uid], theirs[uid]) for uid in ours if uid in theirs])))
    return strata if weights == _weights(other, scores) and all(len(own) for _, own in strata) else []


def _resampled_means(
    strata: Sequence[Stratum], draws: int = DRAWS, generator: np.random.Generator | None = None
) -> Array:
    """Weighted sum over the strata of the means of their bootstrap samples: shape (draws, ...) for (prompts, ...)."""
    generator = generator or np.random.default_rng(0)
    total = np.zeros((draws, *strata[0][1].shape[1:]))
    for weight, own in strata:
        step = max(1, _CHUNK // own.size)
        for start in range(0, draws, step):
            size = (min(step, draws - start), len(own))
            total[start : start + step] += weight * own[generator.integers(len(own), size=size)].mean(axis=1)
    return total
