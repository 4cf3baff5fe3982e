"""Scores of suites and domains: from records to the table, ``results.json`` and metrics of ``validate``."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.evaluation.journal import Record
from omnithink_pl.evaluation.metrics import summarise
from omnithink_pl.evaluation.scorer import Interval, PromptOutcomes, combine_intervals, first_failure, share
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import State

if TYPE_CHECKING:
    from omnithink_pl.evaluation.suites.base import Suite

RESULTS = "results.json"


@dataclass(frozen=True)
class SuiteScore:
    """A policy's score on a suite."""

    name: str
    domain: str  # whose score it is part of
    metric: str
    version: str  # of the suite and its data
    score: Interval | None
    problem: str = ""  # why there is no score
    prompts: int = 0
    samples: int = 0  # completions per prompt
    undefined: float = 0.0  # share of completions without a readable answer; they count 0
    failed: float = 0.0  # share of completions that failed to be scored; they are left out
    reasons: Mapping[str, int] = field(default_factory=dict)  # how often each reason for either occurred
    figures: Mapping[str, Interval] = field(default_factory=dict)  # further figures of the metric
    categories: Mapping[str, Interval] = field(default_factory=dict)  # score of each category
    seconds: float = 0.0  # spent by the last session


@dataclass(frozen=True)
class DomainScore:
    """The plain mean of a domain's suites, as in the paper."""

    name: str
    benchmarks: tuple[str, ...]  # all suites that belong to it
    score: Interval | None  # none if a suite has no score: a mean of the others would be another quantity
    problem: str = ""  # which suite has none, and why


def score_records(name: str, suite: Suite, records: Sequence[Record], seconds: float) -> SuiteScore:
    """Summarise the records of a suite.

    An undefined verdict counts 0, a failed one is left out. If for some prompt every completion failed, the suite has
    no score.

    Args:
        name: Name of the suite.
        suite: Has domain, metric and version.
        records: One per completion.
        seconds: Time spent in this session.
    """
    metric = suite.task.metric
    prompts = _by_prompt(records)
    verdicts = [prompt.values for prompt in prompts]
    unscored = sum(not values for values in verdicts)
    found: dict[str, Any] = {}
    problem = ""
    if unscored:
        problem = f"{unscored} of {len(prompts)} prompts could not be scored: {first_failure(prompts)}"
    else:
        found = summarise(metric, verdicts, [prompt.category for prompt in prompts])
    reasons = Counter(record.reason.partition(":")[0] for record in records if record.reason)  # details after the colon
    return SuiteScore(
        name=name,
        domain=suite.score_domain,
        metric=metric,
        version=suite.version,
        score=found.pop(metric, None),
        problem=problem,
        prompts=len(prompts),
        samples=max(record.sample for record in records) + 1,
        undefined=share(prompts, State.UNDEFINED),
        failed=share(prompts, State.FAILED),
        reasons=dict(reasons.most_common()),
        categories=found.pop("categories", {}),
        figures=found,
        seconds=seconds,
    )


def _by_prompt(records: Sequence[Record]) -> list[PromptOutcomes]:
    """Group records by example; both turns of a conversation count as completions of one prompt."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.uid, []).append(record)
    return [
        PromptOutcomes(uid, tuple(record.outcome for record in own), own[0].category) for uid, own in groups.items()
    ]


def score_domains(scores: Mapping[str, SuiteScore], members: Mapping[str, Collection[str]]) -> list[DomainScore]:
    """Return each domain's plain mean; ``members`` names all of its suites, whether they were run or not."""
    domains = []
    for name, own in members.items():
        missing = [f"{one} was not asked for" for one in own if one not in scores]
        missing += [f"{one}: {scores[one].problem}" for one in own if one in scores and scores[one].score is None]
        found = [scores[one].score for one in own if one in scores]
        mean = None if missing else combine_intervals([score for score in found if score is not None])
        domains.append(DomainScore(name, tuple(own), mean, "; ".join(missing)))
    return domains


def suite_metrics(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> dict[str, float]:
    """Return what is logged: ``eval/<domain>``, ``eval/<domain>/<suite>`` and the figures below it."""
    intervals = {f"eval/{domain.name}": domain.score for domain in domains}
    shares: dict[str, float] = {}
    for score in scores:
        prefix = f"eval/{score.domain}/{score.name}"
        intervals[prefix] = score.score
        intervals |= {f"{prefix}/{name}": figure for name, figure in {**score.figures, **score.categories}.items()}
        if score.prompts:
            shares |= {f"{prefix}/undefined": score.undefined, f"{prefix}/failed": score.failed}
    metrics: dict[str, float] = {}
    for name, interval in intervals.items():
        if interval is not None:
            metrics |= {name: interval.mean, f"{name}/low": interval.low, f"{name}/high": interval.high}
    return metrics | shares


def write_results(directory: Path, scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> Path:
    """Write all scores to ``results.json``, beside those of earlier sessions that ran other suites."""
    path = directory / RESULTS
    before = json.loads(path.read_text())["benchmarks"] if path.exists() else {}
    results = {
        "benchmarks": {**before, **{score.name: asdict(score) for score in scores}},
        "domains": {domain.name: asdict(domain) for domain in domains},
    }
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False))
    return path


def default_output(root: Path, identity: Mapping[str, str]) -> Path:
    """Return a directory of the completions' own: the same again when the same weights are evaluated."""
    named = next(iter(identity.values())).split(" ")[0]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", named).strip("-")[-60:]
    return root / "validate" / f"{slug}-{derive_seed(json.dumps(dict(identity))):016x}"[:-8]
