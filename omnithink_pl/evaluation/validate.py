"""The verb ``validate``: a policy, or completions of an earlier run, on benchmark suites.

Completions are sampled chunk by chunk, scored and journaled, so that a killed run resumes.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import lightning as L
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.distributed.collectives import check_processes, process_rank
from omnithink_pl.distributed.shard_work import ShardedWork, check_divisible
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import (
    NO_ROOM,
    Completer,
    Key,
    PolicyCompleter,
    Record,
    Request,
    SavedCompletions,
    append_records,
    read_records,
    recorded_completions,
)
from omnithink_pl.evaluation.suite_scores import SuiteScore, score_domains, score_records, suite_metrics, write_results
from omnithink_pl.evaluation.suites.base import Suite, TwoTurns, choose_suites, domain_members
from omnithink_pl.model.adapter import check_adapter
from omnithink_pl.model.sharded_checkpoint import read_full
from omnithink_pl.modules import PolicyModule
from omnithink_pl.report.console import benchmark_progress, benchmark_table, problems
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.seeds import derive_seed
from omnithink_pl.tracking.adapters import run_artifacts
from omnithink_pl.types import Example, Group, Outcome, State
from omnithink_pl.whole import whole_file

log = logging.getLogger(__name__)


def validate(
    trainer: L.Trainer,
    model: PolicyModule,
    datamodule: MultiTaskData,
    ckpt_path: str | None = None,
    benchmarks: str | None = None,
    completions: str | None = None,
    output: str | None = None,
    chunk: int = 64,
) -> None:
    """Evaluate a policy or a checkpoint on benchmarks; resumes where it stopped. Processes divide the prompts.

    Args:
        trainer: Has the device, the processes and the loggers.
        model: Names the policy and has the engine.
        datamodule: Has the benchmarks.
        ckpt_path: Checkpoint whose weights are evaluated instead of the policy's own.
        benchmarks: Names with commas between them, such as ``math500,aime24``; all of ``data.benchmarks`` if not
            given, or the held-out examples of all tasks where a config has none.
        completions: Output of an earlier validate, whose completions are scored again without a policy.
        output: Directory for completions, verdicts and results; by default one that belongs to the weights.
        chunk: Prompts that are sampled, scored and stored at a time, by all processes together.

    Raises:
        BadInput: At the end, if a benchmark has no score.
    """
    if chunk < 1:
        raise BadInput(f"--chunk is {chunk}; use 1 or more")
    check_divisible(trainer.strategy, "validate")
    work = partial(_validate, trainer, model, datamodule, ckpt_path, benchmarks, completions, output, chunk)
    launcher = trainer.strategy.launcher
    work() if launcher is None else launcher.launch(work, trainer=trainer)


def _validate(
    trainer: L.Trainer,
    model: PolicyModule,
    data: MultiTaskData,
    ckpt_path: str | None,
    benchmarks: str | None,
    completions: str | None,
    output: str | None,
    chunk: int,
) -> None:
    """Do the work of ``validate`` in each process."""
    trainer.strategy.setup_environment()
    check_processes(trainer.world_size)
    model.barrier.setup(model)
    suites = choose_suites(data.tasks, data.benchmarks, benchmarks)
    if completions:
        completer: Completer = SavedCompletions(Path(completions))
        identity = {"rescored": time.strftime("%Y%m%d-%H%M%S"), **completer.identity}
    else:
        model.load()  # not configure_model, which may load a reference too
        checkpoint = None if ckpt_path is None else Path(ckpt_path)
        if checkpoint is not None:
            load_weights(model, checkpoint)
        model.to(trainer.strategy.root_device)
        model.check_weights(BadInput, f"; {ckpt_path or model.policy_name} cannot be evaluated: take another one")
        model.engine.attach(model.policy)
        completer = PolicyCompleter(model.policy, model.engine, model.policy_name, checkpoint)
        identity = completer.identity
        for suite in suites.values():
            suite.task.rubric.attach(model.policy, model.engine)
    directory = Path(output) if output else _default_output(Path(trainer.default_root_dir), identity)
    console = Console(quiet=not trainer.is_global_zero)
    console.print(f"Completions and results: {directory}", highlight=False)
    try:
        with benchmark_progress(console) as on_progress:
            sharded, longest = ShardedWork(model.barrier), model.sampling.max_tokens
            scores = SuiteRunner(directory, completer, data.seed, longest, chunk, on_progress, sharded).run_all(suites)
    finally:
        data.teardown("validate")
    if trainer.is_global_zero:
        _publish(trainer, console, directory, scores, domain_members(data.tasks, data.benchmarks, suites))
    missing = [name for name, score in scores.items() if score.score is None]
    if missing:
        raise BadInput(f"no score for {', '.join(missing)}; see above, mend the cause and run the same again")


def load_weights(model: PolicyModule, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a module; refuse one that is damaged, or of another policy."""
    try:
        found = read_full(checkpoint)
        if model.adapter is not None:
            check_adapter(found, model)  # the frozen weights are not in the checkpoint
        model.load_state_dict(found["state_dict"], strict=model.strict_loading)
    except (RuntimeError, KeyError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise BadInput(
            f"--ckpt_path: {checkpoint} is damaged, or a checkpoint of another policy than model.policy="
            f"{model.policy_name} ({first}); give the config of the run that wrote it"
        ) from error


def _default_output(root: Path, identity: Mapping[str, str]) -> Path:
    """Return a directory of the completions' own: the same again when the same weights are evaluated."""
    named = next(iter(identity.values())).split(" ")[0]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", named).strip("-")[-60:]
    return root / "validate" / f"{slug}-{derive_seed(json.dumps(dict(identity))):016x}"[:-8]


def _publish(
    trainer: L.Trainer, console: Console, directory: Path, found: dict[str, SuiteScore], members: dict[str, list[str]]
) -> None:
    """Show results on the screen, and write them to ``results.json`` and MLflow."""
    scores, domains = list(found.values()), score_domains(found, members)
    results = write_results(directory, scores, domains)
    console.print(benchmark_table(scores, domains))
    for line in problems(scores, domains):
        console.print(line, style="red", highlight=False, markup=False)
    files = [results, *(directory / f"{score.name}.jsonl" for score in scores)]
    for logger, run in run_artifacts(trainer).items():
        run.describe({"kind": "validate"}, name=f"validate {directory.name}")
        logger.log_metrics(suite_metrics(scores, domains), step=0)
        for file in filter(Path.is_file, files):
            run.file(file, "benchmarks")
        console.print(f"also in run {run.place}", highlight=False)
        logger.finalize("success")


@dataclass(frozen=True)
class SuiteRunner:
    """Works through suites in chunks of prompts, each divided among the processes. Only the first process writes.

    A chunk's completions are a function of the weights, the seed and the chunk: a run that was killed and resumed
    has the same ones as an undisturbed run. Completions that failed to be scored are scored again by the next run,
    without sampling.
    """

    directory: Path  # gets <suite>.jsonl with the records and <suite>.json with the settings they were made with
    completer: Completer
    seed: int  # of the sampling, and of random choices in prompts
    max_tokens: int  # longest completion where a suite does not say
    chunk: int  # prompts that are sampled, scored and stored at a time
    # Called after each chunk with the suite's name, the prompts done, the prompts in all, and the records so far.
    on_progress: Callable[[str, int, int, Sequence[Record]], None]
    sharded: ShardedWork

    def run_all(self, suites: Mapping[str, Suite]) -> dict[str, SuiteScore]:
        """Run suites one after the other. One that cannot be run gets no score but the reason; the others go on."""
        scores: dict[str, SuiteScore] = {}
        for name, suite in suites.items():
            try:
                scores[name] = self._run(name, suite)
            except BadInput as error:
                if process_rank() == 0:
                    log.error("%s: %s", name, error)
                scores[name] = SuiteScore(name, suite.score_domain, suite.task.metric, suite.version, None, str(error))
        return scores

    def _run(self, name: str, suite: Suite) -> SuiteScore:
        """Complete a suite's records and score them."""
        began = time.monotonic()
        examples = self.sharded.run(lambda: suite.task.examples("test", self.seed))
        self.sharded.run(lambda: self.completer.open(name))
        journal = self.directory / f"{name}.jsonl"
        records = self.sharded.on_rank_zero(lambda: self._restore(name, suite, examples, journal))
        self.on_progress(name, 0, len(examples), list(records.values()))
        for start in range(0, len(examples), self.chunk):
            chunk = examples[start : start + self.chunk]
            done = self._run_chunk(name, suite, chunk, start, records)
            # A resumed chunk is made again as a whole; what the journal has a verdict for is not written twice.
            new = [one for one in done if (before := records.get(one.key)) is None or before.state == State.FAILED]
            self.sharded.on_rank_zero(partial(append_records, journal, new))
            records |= {record.key: record for record in done}
            self.on_progress(name, start + len(chunk), len(examples), list(records.values()))
        return score_records(name, suite, list(records.values()), time.monotonic() - began)

    def _restore(self, name: str, suite: Suite, examples: Sequence[Example], journal: Path) -> dict[Key, Record]:
        """Return the records of earlier runs, which must have had the same settings."""
        drawn = self._sampling(suite)
        # Everything that completions depend on, in readable form: differences are shown to the user.
        settings = {
            **self.completer.identity,
            "version": suite.version,
            "prompts": f"{len(examples)} {derive_seed(json.dumps([[e.uid, e.messages] for e in examples])):x}",
            "sampling": f"{drawn.group_size} at {drawn.temperature:g}, {drawn.top_p:g}, {drawn.max_tokens} tokens",
            "seed": self.seed,
            "chunk": self.chunk,
        }
        path = self.directory / f"{name}.json"
        before = json.loads(path.read_text()) if path.exists() else settings
        other = [f"{key}: {before.get(key)!r}, now {new!r}" for key, new in settings.items() if before.get(key) != new]
        if other:
            raise BadInput(
                f"{self.directory} has completions of {name} that were made otherwise ({'; '.join(other)}); name "
                f"another place with --output, or delete {name}.json and {name}.jsonl there"
            )
        if not path.exists():
            with whole_file(path) as file:
                file.write(json.dumps(settings, indent=2).encode())
        return read_records(journal)

    def _sampling(self, suite: Suite) -> Sampling:
        return Sampling(suite.samples, suite.temperature, suite.top_p, suite.max_tokens or self.max_tokens)

    def _run_chunk(
        self, name: str, suite: Suite, examples: Sequence[Example], start: int, known: Mapping[Key, Record]
    ) -> list[Record]:
        """Return a chunk's records of all processes; none where all have a verdict already."""
        requests = [Request(example, 1, tuple(range(suite.samples))) for example in examples]
        turns = 2 if isinstance(suite.task.source, TwoTurns) else 1
        keys = [(uid, turn, n) for one in requests for uid, _, n in one.keys for turn in range(1, turns + 1)]
        sampled = all(key in known for key in keys)
        if sampled and not any(known[key].state == State.FAILED for key in keys):
            return []

        def complete(requests: Sequence[Request], turn: int) -> list[Group]:
            sampling = replace(self._sampling(suite), group_size=suite.samples if turn == 1 else 1)
            if sampled:  # only scoring had failed
                completions = recorded_completions(requests, known)
            else:
                completions = self.completer.complete(requests, sampling, derive_seed(self.seed, name, start, turn))
            return [Group(one.example, (), own) for one, own in zip(requests, completions, strict=True)]

        own = self.sharded.shard(requests)
        records = self.sharded.gather(lambda: _complete_and_score(suite, own, complete))
        # In the order of one process, whatever the number of processes.
        place = {example.uid: number for number, example in enumerate(examples)}
        return sorted(records, key=lambda record: (record.turn, place[record.uid], record.sample))


def _complete_and_score(
    suite: Suite,
    requests: Sequence[Request],
    complete: Callable[[Sequence[Request], int], list[Group]],
) -> list[Record]:
    """Return one process's records of a chunk. It samples even without requests: processes may share the engine."""
    groups = complete(requests, 1)
    source = suite.task.source
    if isinstance(source, TwoTurns):
        second = [Request(e, 2, (n,)) for group in groups for n, e in enumerate(source.follow_up(group))]
        requests, groups = [*requests, *second], [*groups, *complete(second, 2)]
    scores = suite.task.rubric.score(groups) if groups else []
    records = []
    for request, group, row in zip(requests, groups, scores, strict=True):
        for sample, completion, score in zip(request.samples, group.completions, row, strict=True):
            outcome, text = score.primary, completion.text
            # By text: completions from a file have no token ids.
            if outcome.state is State.UNDEFINED and (text, completion.finish_reason) == ("", NO_ROOM.finish_reason):
                outcome = Outcome.undefined("prompt leaves no room in the context")
            records.append(
                Record(
                    task=request.example.task,
                    uid=request.example.uid,
                    turn=request.turn,
                    sample=sample,
                    category=request.example.category,
                    completion=text,
                    tokens=len(completion.token_ids),
                    finish_reason=completion.finish_reason,
                    state=outcome.state.value,
                    value=outcome.value,
                    reason=outcome.reason,
                )
            )
    return records
