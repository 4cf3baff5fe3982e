"""The score of a benchmark, and that of a domain of benchmarks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from omnithink_pl.evaluation.intervals import Interval
from omnithink_pl.evaluation.journal import Record
from omnithink_pl.types import State


@dataclass(frozen=True)
class BenchmarkScore:
    """What a policy reached on a benchmark.

    Args:
        name: Of the benchmark.
        domain: Whose score it is part of.
        metric: Name of the metric.
        version: Of the benchmark.
        score: With its 95 % interval; ``None`` if it is undefined.
        problem: Why it is undefined.
        prompts: Prompts scored.
        samples: Completions per prompt.
        undefined: Share of completions without an answer that can be read; they count 0.
        failed: Share of completions that we could not score.
        reasons: How often each reason for either occurred.
        figures: What else the metric has.
        categories: The score of each category.
        seconds: What the last session spent on it.
    """

    name: str
    domain: str
    metric: str
    version: str
    score: Interval | None
    problem: str = ""
    prompts: int = 0
    samples: int = 0
    undefined: float = 0.0
    failed: float = 0.0
    reasons: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, Interval] = field(default_factory=dict)
    categories: Mapping[str, Interval] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class DomainScore:
    """The plain mean of a domain's benchmarks, as the paper has it.

    Args:
        name: Of the domain.
        benchmarks: All that belong to it.
        score: ``None`` if one of them has no score: a mean of the others would be another quantity.
        problem: Which one, and why.
    """

    name: str
    benchmarks: tuple[str, ...]
    score: Interval | None
    problem: str = ""


def score_records(
    name: str, domain: str, metric: str, version: str, records: Sequence[Record], seconds: float
) -> BenchmarkScore:
    """Summarise what a benchmark's completions were worth.

    An undefined verdict counts 0. A failed one is left out; a prompt none of whose completions could be scored
    leaves the benchmark without a score.

    Args:
        name: Of the benchmark.
        domain: Whose score it is part of.
        metric: Name of the task's metric.
        version: Of the benchmark.
        records: All of its completions.
        seconds: Spent in this session.
    """
    from omnithink_pl.evaluation.metrics import metric_called, summarise  # evaluate and datasets take seconds

    verdicts: dict[str, list[float]] = {record.uid: [] for record in records}
    categories = {record.uid: record.category for record in records}
    for record in records:
        if record.outcome.state is not State.FAILED:
            verdicts[record.uid].append(record.outcome.value or 0.0)
    unscored = sum(not scores for scores in verdicts.values())
    found: dict[str, Any] = {}
    if not unscored:
        found = summarise(metric_called(metric), list(verdicts.values()), list(categories.values()))
    failed = [record for record in records if record.state == State.FAILED]
    problem = f"{unscored} of {len(verdicts)} prompts could not be scored: {failed[0].reason}" if unscored else ""
    return BenchmarkScore(
        name=name,
        domain=domain,
        metric=metric,
        version=version,
        score=found.pop(metric, None),
        problem=problem,
        prompts=len(verdicts),
        samples=max(record.sample for record in records) + 1,
        undefined=sum(record.state == State.UNDEFINED for record in records) / len(records),
        failed=len(failed) / len(records),
        reasons=_counted(records),
        categories=found.pop("categories", {}),
        figures=found,
        seconds=seconds,
    )


def _counted(records: Sequence[Record]) -> dict[str, int]:
    """Reasons up to their first colon, behind which details stand."""
    counts: dict[str, int] = {}
    for record in records:
        if record.reason:
            reason = record.reason.partition(":")[0]
            counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def score_domains(scores: Mapping[str, BenchmarkScore], members: Mapping[str, Collection[str]]) -> list[DomainScore]:
    """Each domain's plain mean, where all of its benchmarks have a score.

    Args:
        scores: By benchmark.
        members: The benchmarks of each domain, whether they were run or not.
    """
    return [_domain(name, tuple(own), scores) for name, own in members.items()]


def _domain(name: str, members: tuple[str, ...], scores: Mapping[str, BenchmarkScore]) -> DomainScore:
    missing = [f"{one} was not asked for" for one in members if one not in scores]
    missing += [f"{one}: {scores[one].problem}" for one in members if one in scores and scores[one].score is None]
    if missing:
        return DomainScore(name, members, None, "; ".join(missing))
    return DomainScore(name, members, mean_of([s for one in members if (s := scores[one].score) is not None]))


def mean_of(intervals: Sequence[Interval]) -> Interval:
    """Mean of independent scores, with the interval that follows from theirs.

    Each end is as far from the mean as the root of the summed squares of theirs, over their number: the method of
    variance estimates recovery (Zou and Donner 2008, "Construction of confidence limits about effect measures").
    """
    n = len(intervals)
    mean = sum(interval.mean for interval in intervals) / n
    low = sqrt(sum((interval.mean - interval.low) ** 2 for interval in intervals)) / n
    high = sqrt(sum((interval.high - interval.mean) ** 2 for interval in intervals)) / n
    return Interval(mean, max(0.0, mean - low), min(1.0, mean + high))
