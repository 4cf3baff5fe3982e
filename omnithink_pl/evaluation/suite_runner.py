"""Running suites: completions, verdicts, scores of suites and domains, resumable."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.distributed.shard_work import ShardedWork
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completers import NO_ROOM, Ask, Completer, from_records
from omnithink_pl.evaluation.journal import Journal, Key, Record
from omnithink_pl.evaluation.metrics import Interval
from omnithink_pl.evaluation.suites.base import Benchmark, TwoTurns
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion, Example, Group, Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.data import MultiTaskData


TOO_LONG = Outcome.undefined("prompt leaves no room in the context")


class BenchmarkRunner:
    """Works through benchmarks in chunks of prompts, which processes divide among them. The first has the files.

    A chunk's completions are a function of the weights, the seed and the chunk: a run that was killed and continued
    has the same as one that was not. What could not be scored is scored again, without sampling, by the next run.

    Args:
        directory: Gets ``<benchmark>.jsonl`` and ``<benchmark>.json`` with what they were made with.
        completer: Answers the prompts.
        seed: Of the sampling, and of what prompts draw.
        max_tokens: Longest completion where a benchmark does not say.
        chunk: Prompts that are sampled, scored and stored at a time.
        on_progress: Called with a benchmark's name, prompts done and prompts in all, and the verdicts so far.
        sharded: Among the processes of this run; one does everything if not given.
    """

    def __init__(
        self,
        directory: Path,
        completer: Completer,
        seed: int,
        max_tokens: int,
        chunk: int = 64,
        on_progress: Callable[[str, int, int, Sequence[Record]], None] | None = None,
        sharded: ShardedWork | None = None,
    ) -> None:
        if chunk < 1:
            raise BadInput(f"--chunk is {chunk}; use 1 or more")
        self.directory = directory
        self.completer = completer
        self.seed = seed
        self.max_tokens = max_tokens
        self.chunk = chunk
        self.on_progress = on_progress
        self.sharded = sharded or ShardedWork(FailureBarrier())

    def run(self, name: str, benchmark: Benchmark) -> BenchmarkScore:
        """Finish a benchmark, and score it.

        Raises:
            BadInput: If its rows cannot be had, or the files that are there were made otherwise.
        """
        began = time.monotonic()
        examples = self.sharded.run(lambda: self._open(name, benchmark))
        journal = Journal(self.directory / f"{name}.jsonl")
        known = self.sharded.on_rank_zero(lambda: self._known(name, benchmark, examples, journal))
        self._tell(name, 0, len(examples), known)
        for start in range(0, len(examples), self.chunk):
            done = self._chunk(name, benchmark, examples[start : start + self.chunk], start, known)
            news = [record for record in done if _is_news(record, known.get(record.key))]
            self.sharded.on_rank_zero(partial(journal.append, news))
            known |= {record.key: record for record in done}
            self._tell(name, min(start + self.chunk, len(examples)), len(examples), known)
        return score_records(
            name,
            benchmark.belongs_to,
            benchmark.task.metric,
            benchmark.version,
            list(known.values()),
            time.monotonic() - began,
        )

    def _open(self, name: str, benchmark: Benchmark) -> list[Example]:
        examples = benchmark.task.examples("test", self.seed)
        if not examples:
            raise BadInput(f"{name} has no rows; check the path and the filters of its source")
        self.completer.open(name)
        return examples

    def _known(
        self, name: str, benchmark: Benchmark, examples: Sequence[Example], journal: Journal
    ) -> dict[Key, Record]:
        """What there is already."""
        self._check_settings(name, self._settings(name, benchmark, examples))
        return journal.read()

    def _chunk(
        self, name: str, benchmark: Benchmark, examples: Sequence[Example], start: int, known: Mapping[Key, Record]
    ) -> list[Record]:
        asks = [Ask(example, 1, tuple(range(benchmark.samples))) for example in examples]
        turns = 2 if isinstance(benchmark.task.source, TwoTurns) else 1
        keys = [(uid, turn, sample) for ask in asks for uid, _, sample in ask.keys for turn in range(1, turns + 1)]
        there = all(key in known for key in keys)
        if there and all(known[key].state != State.FAILED for key in keys):
            return []
        done = self.sharded.gather(lambda: self._own(name, benchmark, self.sharded.shard(asks), start, known, there))
        place = {example.uid: number for number, example in enumerate(examples)}
        return sorted(done, key=lambda record: (record.turn, place[record.uid], record.sample))

    def _own(
        self,
        name: str,
        benchmark: Benchmark,
        asks: Sequence[Ask],
        start: int,
        known: Mapping[Key, Record],
        there: bool,
    ) -> list[Record]:
        """This process's share of a chunk; the engine is asked also if that is nothing, for it may be shared."""

        def complete(asks: Sequence[Ask], turn: int) -> list[Group]:
            seed = derive_seed(self.seed, name, start, turn)
            sampling = replace(self._sampling(benchmark), group_size=benchmark.samples if turn == 1 else 1)
            drawn = from_records(asks, known) if there else self.completer.complete(asks, sampling, seed)
            return [Group(ask.example, (), completions) for ask, completions in zip(asks, drawn, strict=True)]

        groups = complete(asks, 1)
        source = benchmark.task.source
        if isinstance(source, TwoTurns):
            second = [Ask(e, 2, (i,)) for group in groups for i, e in enumerate(source.follow_up(group))]
            asks, groups = [*asks, *second], [*groups, *complete(second, 2)]
        scores = benchmark.task.rubric.score(groups) if groups else []
        return [
            _record(ask, sample, completion, score)
            for ask, group, row in zip(asks, groups, scores, strict=True)
            for sample, completion, score in zip(ask.samples, group.completions, row, strict=True)
        ]

    def _sampling(self, benchmark: Benchmark) -> Sampling:
        longest = benchmark.max_tokens or self.max_tokens
        return Sampling(benchmark.samples, benchmark.temperature, benchmark.top_p, longest)

    def _settings(self, name: str, benchmark: Benchmark, examples: Sequence[Example]) -> dict[str, Any]:
        sampling = self._sampling(benchmark)
        return {
            **self.completer.identity(),
            "version": benchmark.version,
            "prompts": f"{len(examples)} {derive_seed(json.dumps([[e.uid, e.messages] for e in examples])):x}",
            "sampling": (
                f"{sampling.group_size} at {sampling.temperature:g}, {sampling.top_p:g}, {sampling.max_tokens} tokens"
            ),
            "seed": self.seed,
            "chunk": self.chunk,
        }

    def _check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        path = self.directory / f"{name}.json"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".json.tmp")
            unfinished.write_text(json.dumps(settings, indent=2))
            unfinished.replace(path)
            return
        made = json.loads(path.read_text())
        other = [
            f"{key}: {made.get(key)!r}, now {value!r}" for key, value in settings.items() if made.get(key) != value
        ]
        if other:
            raise BadInput(
                f"{self.directory} has completions of {name} that were made otherwise ({'; '.join(other)}); name "
                f"another place with --output, or delete {name}.json and {name}.jsonl there"
            )

    def _tell(self, name: str, done: int, total: int, known: Mapping[Key, Record]) -> None:
        if self.on_progress is not None:
            self.on_progress(name, done, total, list(known.values()))


def _is_news(record: Record, before: Record | None) -> bool:
    return before is None or before.state == State.FAILED


def _record(ask: Ask, sample: int, completion: Completion, score: Score) -> Record:
    outcome = score.primary
    if outcome.state is State.UNDEFINED and (completion.text, completion.finish_reason) == ("", NO_ROOM.finish_reason):
        outcome = TOO_LONG
    return Record(
        task=ask.example.task,
        uid=ask.example.uid,
        turn=ask.turn,
        sample=sample,
        category=ask.example.category,
        completion=completion.text,
        tokens=len(completion.token_ids),
        finish_reason=completion.finish_reason,
        state=outcome.state.value,
        value=outcome.value,
        reason=outcome.reason,
    )


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
    from omnithink_pl.evaluation.metrics import metric_called, summarise

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
