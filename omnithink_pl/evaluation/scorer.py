"""Core of every evaluation: sample completions, collect their outcomes, and give mean scores with 95 % intervals.

Stage evaluation (``evaluator.py``) and the suites of ``validate`` are built on it. An undefined outcome, such as a
completion without an answer, counts as the lowest value of its reward, which is 0 unless that declares another range; a
failed one is left out of every mean and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from omnithink_pl.rollout.base import Finished, RolloutEngine, Sampling
from omnithink_pl.seeds import keyed_seeds
from omnithink_pl.types import UNIT_RANGE, Example, Group, Outcome, Range, State

Z = NormalDist().inv_cdf(0.975)
AFTER = "after"
"""Namespace of the scores that runs are compared by."""
UNCERTAINTY = "uncertainty"
"""Namespace of intervals, and of the shares of completions that are undefined or failed."""


def sample_groups(
    engine: RolloutEngine,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seed: int,
    finished: Finished | None = None,
) -> list[Group]:
    """Sample completions for every example, with the engine's present weights; ``prompts`` are token ids.

    The seed of an example depends neither on the other examples nor on the process, so any split of the work gives
    the same completions. ``finished`` is called for each prompt as ``RolloutEngine.generate`` says.
    """
    seeds = keyed_seeds((example.key for example in examples), seed)
    completions = engine.generate(prompts, sampling, seeds, finished)
    return [
        Group(example, tuple(prompt), own) for example, prompt, own in zip(examples, prompts, completions, strict=True)
    ]


@dataclass(frozen=True)
class PromptOutcomes:
    """Primary-reward outcomes of one prompt's completions."""

    uid: str
    outcomes: tuple[Outcome, ...]  # one per completion
    category: str = ""  # what the prompt is reported under; empty for nothing
    range: Range = UNIT_RANGE  # of the primary reward
    question: str = ""  # for a reader, like the texts
    texts: tuple[str, ...] = ()  # of the completions

    @property
    def values(self) -> list[float]:
        """Scores of the completions: the lowest of the range where undefined, left out where failed."""
        scored = (outcome for outcome in self.outcomes if outcome.state is not State.FAILED)
        return [self.range[0] if outcome.value is None else outcome.value for outcome in scored]


def share(prompts: Iterable[PromptOutcomes], state: State) -> float:
    """Return the fraction of all completions whose outcome is in a state."""
    states = [outcome.state for prompt in prompts for outcome in prompt.outcomes]
    return sum(found is state for found in states) / len(states)


def first_failure(prompts: Iterable[PromptOutcomes]) -> str:
    """Return the reason of the first failed outcome; empty if none failed."""
    outcomes = (outcome for prompt in prompts for outcome in prompt.outcomes)
    return next((outcome.reason for outcome in outcomes if outcome.state is State.FAILED), "")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def average(cls, intervals: Sequence[Interval]) -> Interval:
        """Return the mean of independent scores, with the interval that follows from theirs.

        Each end is as far from the mean as the root of the summed squares of theirs, divided by their number: the
        method of variance estimates recovery (Zou and Donner 2008, "Construction of confidence limits about effect
        measures").
        """
        n = len(intervals)
        mean = sum(interval.mean for interval in intervals) / n
        low = sqrt(sum((interval.mean - interval.low) ** 2 for interval in intervals)) / n
        high = sqrt(sum((interval.high - interval.mean) ** 2 for interval in intervals)) / n
        return cls(mean, mean - low, mean + high)


def mean_interval(prompts: Sequence[Sequence[float]], bounds: Range = UNIT_RANGE) -> Interval:
    """Return the mean score over prompts, each of which may have several completions, with scores in ``bounds``.

    Scores of another range are scaled to [0, 1], and the interval back.

    Completions of one prompt are correlated, so prompts are the independent draws (a cluster sample). The mean is
    that of the per-prompt means m_i, with variance v = sum (m_i - mean)^2 / n^2. The interval is Wilson's at the
    effective number of independent 0/1 draws, mean (1 - mean) / v, as Korn and Graubard 1998 propose for surveys
    ("Confidence Intervals for Proportions with Small Expected Number of Positive Counts"). With one 0/1 score per
    prompt it is Wilson's own; it stays inside [0, 1] and has a width even where all prompts agree. Prompts without a
    score are left out.

    Raises:
        ValueError: If no prompt has a score.
    """
    low, high = bounds
    scored = [[(score - low) / (high - low) for score in scores] for scores in prompts if scores]
    if not scored:
        raise ValueError("no completion has a score; see the failures that the rewards report")
    means = [sum(scores) / len(scores) for scores in scored]
    mean = sum(means) / len(means)
    squares = sum((value - mean) ** 2 for value in means)
    draws = float(len(means))
    if squares > 0.0:
        # Never more draws than completions, however alike a few prompts happen to be.
        draws = min(draws * draws * mean * (1.0 - mean) / squares, float(sum(map(len, scored))))
    return Interval(*(low + (high - low) * share for share in (mean, *wilson(mean, draws))))


def wilson(mean: float, draws: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion in ``draws`` independent draws, not necessarily whole.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    scale = 1.0 + Z * Z / draws
    centre = (mean + Z * Z / (2.0 * draws)) / scale
    reach = Z * sqrt(mean * (1.0 - mean) / draws + Z * Z / (4.0 * draws * draws)) / scale
    return min(mean, max(0.0, centre - reach)), max(mean, min(1.0, centre + reach))
