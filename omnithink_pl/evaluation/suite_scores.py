"""Scores of suites and domains: from records, by the metric of a suite, to ``results.json`` and logged metrics.

The metrics are an ``evaluate.Metric`` that needs no network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import comb
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final
from uuid import uuid4

import datasets
import evaluate

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import Record
from omnithink_pl.evaluation.scorer import UNCERTAINTY, Interval, PromptOutcomes, first_failure, mean_interval, share
from omnithink_pl.evaluation.suites.base import Suite
from omnithink_pl.types import UNIT_RANGE, Outcome, Range, State
from omnithink_pl.whole import whole_file

Verdicts = Sequence[Sequence[float]]  # per prompt, the scores of its completions


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Estimate without bias the chance that at least one of k programs passes, when c of n did.

    1 - C(n-c, k) / C(n, k): Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.
    """
    if not 0 <= passed <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {passed} in {n} programs makes no sense")
    return 1.0 - comb(n - passed, k) / comb(n, k)


# `accuracy` with k samples per prompt is avg@k; `exact_match` is over all questions, the micro average of the
# categories; `win_rate` counts ties as 0.5 (FastChat's `win_rate_adjusted`).
METRICS = ("accuracy", "exact_match", "pass_at_1", "win_rate")


def _further_figures(metric: str, verdicts: Verdicts) -> dict[str, Interval]:
    """Return the figures of a metric beside the mean score, each a mean over prompts."""
    figures: dict[str, list[list[float]]] = {}
    if metric == "pass_at_1":  # every k that all prompts have samples for
        for k in (5, 10, 50, 100):
            if k <= min(map(len, verdicts)):
                figures[f"pass_at_{k}"] = [[pass_at_k(len(own), sum(map(bool, own)), k)] for own in verdicts]
    if metric == "win_rate":  # the shares of wins (FastChat's `win_rate`) and of ties
        for name, value in (("raw", 1.0), ("ties", 0.5)):
            figures[name] = [[float(verdict == value) for verdict in own] for own in verdicts]
    return {name: mean_interval(scores) for name, scores in figures.items()}


@final
class VerdictMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """Mean verdict of a suite; ``config_name`` is one of ``METRICS``.

    ``compute(verdicts=..., categories=...)`` returns the mean score under the metric's name with its 95 % interval,
    further figures of the metric, and ``categories`` with the mean score of each. Prompts are the independent draws:
    see ``mean_interval``; those without a verdict are left out.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "verdicts": datasets.Sequence(datasets.Value("float64")),  # of a prompt; empty if none was scored
            "categories": datasets.Value("string"),  # empty where a prompt has none
        }
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=datasets.Features(features))

    def _compute(self, verdicts: Verdicts, categories: Sequence[str], bounds: Range = UNIT_RANGE) -> dict[str, Any]:
        scored = [(list(own), str(name)) for own, name in zip(verdicts, categories, strict=True) if own]
        rows = [own for own, _ in scored]
        names = sorted({name for _, name in scored if name})
        return {
            self.config_name: mean_interval(rows, bounds),
            **_further_figures(self.config_name, rows),
            "categories": {one: mean_interval([own for own, name in scored if name == one], bounds) for one in names},
        }


def summarise(metric: str, verdicts: Verdicts, categories: Sequence[str], bounds: Range = UNIT_RANGE) -> dict[str, Any]:
    """Compute a metric in memory, without leaving files in the cache of ``evaluate``.

    Raises:
        ValueError: If there is no such metric.
        BadInput: If no prompt has a verdict.
    """
    if metric not in METRICS:
        raise ValueError(f"a task's metric is one of {', '.join(METRICS)}, not {metric!r}")
    if not any(verdicts):
        raise BadInput("no completion has a verdict; see why the rewards failed")
    with TemporaryDirectory() as directory:
        # An id of its own: processes that compute at the same time must not share a lock file.
        found = VerdictMetric(metric, keep_in_memory=True, cache_dir=directory, experiment_id=uuid4().hex)
        return found.compute(verdicts=verdicts, categories=categories, bounds=bounds)


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

    An undefined verdict counts as the lowest, a failed one is left out. If for some prompt every completion failed,
    the suite has no score.
    """
    bounds = suite.task.rubric.range
    by_prompt: dict[str, list[Record]] = {}  # both turns of a conversation count as completions of one prompt
    for record in records:
        by_prompt.setdefault(record.uid, []).append(record)
    prompts = [
        PromptOutcomes(uid, tuple(Outcome(State(r.state), r.value, r.reason) for r in own), own[0].category, bounds)
        for uid, own in by_prompt.items()
    ]
    verdicts = [prompt.values for prompt in prompts]
    unscored = sum(not values for values in verdicts)
    found: dict[str, Any] = {}
    problem = ""
    if unscored:
        problem = f"{unscored} of {len(prompts)} prompts could not be scored: {first_failure(prompts)}"
    else:
        found = summarise(suite.task.metric, verdicts, [prompt.category for prompt in prompts], bounds)
    reasons = Counter(record.reason.partition(":")[0] for record in records if record.reason)  # details after the colon
    return SuiteScore(
        name=name,
        domain=suite.score_domain,
        metric=suite.task.metric,
        version=suite.version,
        score=found.pop(suite.task.metric, None),
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


def score_domains(scores: Mapping[str, SuiteScore], members: Mapping[str, Collection[str]]) -> list[DomainScore]:
    """Return each domain's plain mean; ``members`` names all of its suites, whether they were run or not."""
    domains = []
    for name, own in members.items():
        missing = [f"{one} was not asked for" for one in own if one not in scores]
        missing += [f"{one}: {scores[one].problem}" for one in own if one in scores and scores[one].score is None]
        found = [scores[one].score for one in own if one in scores]
        mean = None if missing else Interval.average([score for score in found if score is not None])
        domains.append(DomainScore(name, tuple(own), mean, "; ".join(missing)))
    return domains


def suite_metrics(scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> dict[str, float]:
    """Return what is logged: ``eval/<domain>``, ``eval/<domain>/<suite>`` and the figures below it.

    Intervals and shares have the same names under ``uncertainty/``.
    """
    intervals = {domain.name: domain.score for domain in domains}
    uncertainty: dict[str, float] = {}
    for score in scores:
        name = f"{score.domain}/{score.name}"
        intervals[name] = score.score
        intervals |= {f"{name}/{figure}": own for figure, own in {**score.figures, **score.categories}.items()}
        if score.prompts:
            uncertainty |= {f"{name}/undefined": score.undefined, f"{name}/failed": score.failed}
    known = {name: interval for name, interval in intervals.items() if interval is not None}
    for name, interval in known.items():
        uncertainty |= {f"{name}/low": interval.low, f"{name}/high": interval.high}
    metrics = {f"eval/{name}": interval.mean for name, interval in known.items()}
    return metrics | {f"{UNCERTAINTY}/{name}": value for name, value in uncertainty.items()}


def write_results(directory: Path, scores: Sequence[SuiteScore], domains: Sequence[DomainScore]) -> Path:
    """Write all scores to ``results.json``, beside those of earlier sessions that ran other suites."""
    path = directory / "results.json"
    before = json.loads(path.read_text())["benchmarks"] if path.exists() else {}
    results = {
        "benchmarks": {**before, **{score.name: asdict(score) for score in scores}},
        "domains": {domain.name: asdict(domain) for domain in domains},
    }
    with whole_file(path) as file:
        file.write(json.dumps(results, indent=2, ensure_ascii=False).encode())
    return path
