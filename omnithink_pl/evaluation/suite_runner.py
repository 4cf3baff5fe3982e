"""Runs suites: samples completions chunk by chunk, scores them and journals them, so that a killed run resumes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omnithink_pl.distributed.collectives import process_rank
from omnithink_pl.distributed.shard_work import ShardedWork
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completers import NO_ROOM, Completer, CompletionRequest, recorded_completions
from omnithink_pl.evaluation.journal import Key, Record, append_records, read_records
from omnithink_pl.evaluation.suite_scores import SuiteScore, score_records
from omnithink_pl.evaluation.suites.base import Suite, TwoTurns
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import derive_seed
from omnithink_pl.types import Completion, Example, Group, Outcome, Score, State

log = logging.getLogger(__name__)
TOO_LONG = Outcome.undefined("prompt leaves no room in the context")

# Name of a suite, prompts done, prompts in all, records so far.
Progress = Callable[[str, int, int, Sequence[Record]], None]


@dataclass(frozen=True)
class SuiteRunner:
    """Works through suites in chunks of prompts, each divided among the processes. Only the first process writes.

    A chunk's completions are a function of the weights, the seed and the chunk: a run that was killed and resumed
    has the same ones as an undisturbed run. Completions that failed to be scored are scored again by the next run,
    without sampling.

    Args:
        directory: Gets ``<suite>.jsonl`` with the records and ``<suite>.json`` with the settings they were made with.
        completer: Answers the prompts.
        seed: Seed of the sampling, and of random choices in prompts.
        max_tokens: Longest completion where a suite does not say.
        chunk: Prompts that are sampled, scored and stored at a time.
        on_progress: Called after each chunk.
        sharded: Divides work among the processes of this run.
    """

    directory: Path
    completer: Completer
    seed: int
    max_tokens: int
    chunk: int
    on_progress: Progress
    sharded: ShardedWork

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise BadInput(f"--chunk is {self.chunk}; use 1 or more")

    def run_all(self, suites: Mapping[str, Suite]) -> dict[str, SuiteScore]:
        """Run suites one after the other. One that cannot be run gets no score but the reason; the others go on."""
        scores: dict[str, SuiteScore] = {}
        for name, suite in suites.items():
            try:
                scores[name] = self.run(name, suite)
            except BadInput as error:
                if process_rank() == 0:
                    log.error("%s: %s", name, error)
                scores[name] = SuiteScore(name, suite.score_domain, suite.task.metric, suite.version, None, str(error))
        return scores

    def run(self, name: str, suite: Suite) -> SuiteScore:
        """Complete a suite's records and score them.

        Raises:
            BadInput: If its rows cannot be loaded, or existing files were made with other settings.
        """
        began = time.monotonic()
        examples = self.sharded.run(lambda: self._load(name, suite))
        journal = self.directory / f"{name}.jsonl"
        records = self.sharded.on_rank_zero(lambda: self._restore(name, suite, examples, journal))
        self.on_progress(name, 0, len(examples), list(records.values()))
        for start in range(0, len(examples), self.chunk):
            chunk = examples[start : start + self.chunk]
            done = self._run_chunk(name, suite, chunk, start, records)
            # A resumed chunk is made again as a whole; what the journal has a verdict for is not written twice.
            new = [one for one in done if (before := records.get(one.key)) is None or before.failed]
            self.sharded.on_rank_zero(partial(append_records, journal, new))
            records |= {record.key: record for record in done}
            self.on_progress(name, start + len(chunk), len(examples), list(records.values()))
        return score_records(name, suite, list(records.values()), time.monotonic() - began)

    def _load(self, name: str, suite: Suite) -> list[Example]:
        examples = suite.task.examples("test", self.seed)
        self.completer.open(name)
        return examples

    def _restore(self, name: str, suite: Suite, examples: Sequence[Example], journal: Path) -> dict[Key, Record]:
        """Return the records of earlier runs, which must have had the same settings."""
        path = self.directory / f"{name}.json"
        settings = self._settings(suite, examples)
        if path.exists():
            _check_same(json.loads(path.read_text()), settings, self.directory, name)
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".json.tmp")
            unfinished.write_text(json.dumps(settings, indent=2))
            unfinished.replace(path)
        return read_records(journal)

    def _settings(self, suite: Suite, examples: Sequence[Example]) -> dict[str, Any]:
        """Return everything that completions depend on, in readable form: differences are shown to the user."""
        sampling = self._sampling(suite)
        return {
            **self.completer.identity,
            "version": suite.version,
            "prompts": f"{len(examples)} {derive_seed(json.dumps([[e.uid, e.messages] for e in examples])):x}",
            "sampling": (
                f"{sampling.group_size} at {sampling.temperature:g}, {sampling.top_p:g}, {sampling.max_tokens} tokens"
            ),
            "seed": self.seed,
            "chunk": self.chunk,
        }

    def _sampling(self, suite: Suite) -> Sampling:
        return Sampling(suite.samples, suite.temperature, suite.top_p, suite.max_tokens or self.max_tokens)

    def _run_chunk(
        self, name: str, suite: Suite, examples: Sequence[Example], start: int, known: Mapping[Key, Record]
    ) -> list[Record]:
        """Return a chunk's records of all processes; none where all have a verdict already."""
        requests = [CompletionRequest(example, 1, tuple(range(suite.samples))) for example in examples]
        turns = 2 if isinstance(suite.task.source, TwoTurns) else 1
        keys = [(uid, turn, n) for one in requests for uid, _, n in one.keys for turn in range(1, turns + 1)]
        sampled = all(key in known for key in keys)
        if sampled and not any(known[key].failed for key in keys):
            return []

        def complete(requests: Sequence[CompletionRequest], turn: int) -> list[Group]:
            sampling = replace(self._sampling(suite), group_size=suite.samples if turn == 1 else 1)
            if sampled:  # only scoring had failed
                completions = recorded_completions(requests, known)
            else:
                seed = derive_seed(self.seed, name, start, turn)
                completions = self.completer.complete(requests, sampling, seed)
            return [Group(one.example, (), own) for one, own in zip(requests, completions, strict=True)]

        own = self.sharded.shard(requests)
        records = self.sharded.gather(lambda: _complete_and_score(suite, own, complete))
        # In the order of one process, whatever the number of processes.
        place = {example.uid: number for number, example in enumerate(examples)}
        return sorted(records, key=lambda record: (record.turn, place[record.uid], record.sample))


def _check_same(before: Mapping[str, Any], settings: Mapping[str, Any], directory: Path, name: str) -> None:
    other = [
        f"{key}: {before.get(key)!r}, now {value!r}" for key, value in settings.items() if before.get(key) != value
    ]
    if other:
        raise BadInput(
            f"{directory} has completions of {name} that were made otherwise ({'; '.join(other)}); name another place "
            f"with --output, or delete {name}.json and {name}.jsonl there"
        )


def _complete_and_score(
    suite: Suite,
    requests: Sequence[CompletionRequest],
    complete: Callable[[Sequence[CompletionRequest], int], list[Group]],
) -> list[Record]:
    """Return one process's records of a chunk. It samples even without requests: processes may share the engine."""
    groups = complete(requests, 1)
    source = suite.task.source
    if isinstance(source, TwoTurns):
        second = [CompletionRequest(e, 2, (n,)) for group in groups for n, e in enumerate(source.follow_up(group))]
        requests, groups = [*requests, *second], [*groups, *complete(second, 2)]
    scores = suite.task.rubric.score(groups) if groups else []
    return [
        _record(request, sample, completion, score)
        for request, group, row in zip(requests, groups, scores, strict=True)
        for sample, completion, score in zip(request.samples, group.completions, row, strict=True)
    ]


def _record(request: CompletionRequest, sample: int, completion: Completion, score: Score) -> Record:
    outcome = score.primary
    # By text: completions from a file have no token ids.
    if outcome.state is State.UNDEFINED and (completion.text, completion.finish_reason) == ("", NO_ROOM.finish_reason):
        outcome = TOO_LONG
    return Record(
        task=request.example.task,
        uid=request.example.uid,
        turn=request.turn,
        sample=sample,
        category=request.example.category,
        completion=completion.text,
        tokens=len(completion.token_ids),
        finish_reason=completion.finish_reason,
        state=outcome.state.value,
        value=outcome.value,
        reason=outcome.reason,
    )
