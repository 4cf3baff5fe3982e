"""Runs a benchmark: completions, verdicts, and the file of both, from where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.benchmarks.base import TwoTurns
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.benchmark_score import BenchmarkScore, score_records
from omnithink_pl.evaluation.completers import NO_ROOM, Ask, Completer, from_records
from omnithink_pl.evaluation.journal import Journal, Key, Record
from omnithink_pl.modules.division import Division
from omnithink_pl.modules.peers import Peers
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion, Example, Group, Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.benchmarks.base import Benchmark

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
        division: Among the processes of this run; one does everything if not given.
    """

    def __init__(
        self,
        directory: Path,
        completer: Completer,
        seed: int,
        max_tokens: int,
        chunk: int = 64,
        on_progress: Callable[[str, int, int, Sequence[Record]], None] | None = None,
        division: Division | None = None,
    ) -> None:
        if chunk < 1:
            raise BadInput(f"--chunk is {chunk}; use 1 or more")
        self.directory = directory
        self.completer = completer
        self.seed = seed
        self.max_tokens = max_tokens
        self.chunk = chunk
        self.on_progress = on_progress
        self.division = division or Division(Peers())

    def run(self, name: str, benchmark: Benchmark) -> BenchmarkScore:
        """Finish a benchmark, and score it.

        Raises:
            BadInput: If its rows cannot be had, or the files that are there were made otherwise.
        """
        began = time.monotonic()
        examples = self.division.agreed(lambda: self._open(name, benchmark))
        journal = Journal(self.directory / f"{name}.jsonl")
        known = self.division.first(lambda: self._known(name, benchmark, examples, journal))
        self._tell(name, 0, len(examples), known)
        for start in range(0, len(examples), self.chunk):
            done = self._chunk(name, benchmark, examples[start : start + self.chunk], start, known)
            news = [record for record in done if _is_news(record, known.get(record.key))]
            self.division.first(partial(journal.append, news))
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
        done = self.division.each(lambda: self._own(name, benchmark, self.division.own(asks), start, known, there))
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
            sampling = replace(self._sampling(benchmark), n=benchmark.samples if turn == 1 else 1)
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
            "sampling": f"{sampling.n} at {sampling.temperature:g}, {sampling.top_p:g}, {sampling.max_tokens} tokens",
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
