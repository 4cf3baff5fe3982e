"""Which benchmarks are run, and what comes of them together."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.benchmarks.base import Benchmark
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.benchmark_score import BenchmarkScore, DomainScore
from omnithink_pl.modules.processes import process_rank
from omnithink_pl.seeds import derive_seed

if TYPE_CHECKING:
    from omnithink_pl.data import MultiTaskData
    from omnithink_pl.evaluation.benchmark_runner import BenchmarkRunner

log = logging.getLogger(__name__)
RESULTS = "results.json"


def choose_benchmarks(data: MultiTaskData, wanted: str | None) -> dict[str, Benchmark]:
    """The benchmarks to run, by name.

    Args:
        data: Has ``benchmarks``, and tasks whose held-out examples can be had under the task's name.
        wanted: Names, with commas between them; all of ``data.benchmarks`` if not given, or of the held-out tasks
            where there are none.

    Raises:
        BadInput: If a name is unknown.
    """
    known = {**held_out(data), **data.benchmarks}
    if wanted is None:
        return dict(data.benchmarks) or known
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise BadInput(
                f"--benchmarks: {name!r} is unknown; choose from {', '.join(known)}, or give a config that has it, "
                f"such as configs/benchmarks/paper.yaml"
            )
    return {name: known[name] for name in names}


def held_out(data: MultiTaskData) -> dict[str, Benchmark]:
    """Each task's held-out examples as a benchmark, answered greedily."""
    return {name: Benchmark(task) for name, task in data.tasks.items()}


def domain_members(data: MultiTaskData, chosen: Mapping[str, Benchmark]) -> dict[str, list[str]]:
    """The benchmarks of each domain of which some are run: all that the config has, or else the held-out task."""
    members: dict[str, list[str]] = {}
    for name, benchmark in (data.benchmarks or held_out(data)).items():
        members.setdefault(benchmark.belongs_to, []).append(name)
    ran = {benchmark.belongs_to for benchmark in chosen.values()}
    return {domain: own for domain, own in members.items() if domain in ran}


def run_benchmarks(runner: BenchmarkRunner, chosen: Mapping[str, Benchmark]) -> dict[str, BenchmarkScore]:
    """Run one after the other; one that cannot be run has no score, and says why, and the others go on."""
    scores: dict[str, BenchmarkScore] = {}
    for name, benchmark in chosen.items():
        try:
            scores[name] = runner.run(name, benchmark)
        except BadInput as error:
            if process_rank() == 0:
                log.error("%s: %s", name, error)
            domain, metric = benchmark.belongs_to, benchmark.task.metric
            scores[name] = BenchmarkScore(name, domain, metric, benchmark.version, None, str(error))
    return scores


def benchmark_metrics(scores: Sequence[BenchmarkScore], domains: Sequence[DomainScore]) -> dict[str, float]:
    """What is logged, by metric name: ``eval/<domain>``, ``eval/<domain>/<benchmark>`` and what lies below it."""
    metrics: dict[str, float] = {}
    for one in domains:
        if one.score is not None:
            metrics |= _interval(f"eval/{one.name}", asdict(one.score))
    for score in scores:
        prefix = f"eval/{score.domain}/{score.name}"
        if score.score is not None:
            metrics |= _interval(prefix, asdict(score.score))
        for name, figure in {**score.figures, **score.categories}.items():
            metrics |= _interval(f"{prefix}/{name}", asdict(figure))
        if score.prompts:
            metrics |= {f"{prefix}/undefined": score.undefined, f"{prefix}/failed": score.failed}
    return metrics


def _interval(name: str, interval: Mapping[str, float]) -> dict[str, float]:
    return {name: interval["mean"], f"{name}/low": interval["low"], f"{name}/high": interval["high"]}


def write_results(directory: Path, scores: Sequence[BenchmarkScore], domains: Sequence[DomainScore]) -> Path:
    """Write all scores to ``results.json``, with those of earlier sessions that ran other benchmarks."""
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
    """Where a policy's completions go: a place of its own, found again when the same weights are evaluated."""
    named = next(iter(identity.values())).split(" ")[0]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", named).strip("-")[-60:]
    return root / "validate" / f"{slug}-{derive_seed(json.dumps(dict(identity))):016x}"[:-8]
