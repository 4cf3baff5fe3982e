"""The verbs ``score`` and ``validate`` of the command line."""

from __future__ import annotations

import pickle
import time
from functools import partial
from pathlib import Path

import lightning as L
import torch
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.distributed.collectives import check_processes
from omnithink_pl.distributed.shard_work import ShardedWork, check_divisible
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completers import PolicyCompleter, SavedCompletions
from omnithink_pl.evaluation.completion_file import score_completions
from omnithink_pl.evaluation.suite_runner import SuiteRunner
from omnithink_pl.evaluation.suite_scores import (
    DomainScore,
    SuiteScore,
    default_output,
    score_domains,
    suite_metrics,
    write_results,
)
from omnithink_pl.evaluation.suites.base import choose_suites, domain_members
from omnithink_pl.model.adapter import check_adapter
from omnithink_pl.modules import PolicyModule
from omnithink_pl.report.console import benchmark_progress, benchmark_table, problems, reward_summary, reward_table
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.artifacts import rollout_table


def score(trainer: L.Trainer, model: L.LightningModule, datamodule: MultiTaskData, completions: str) -> None:
    """Score completions from a file with the rewards of a config, and print them; loads no policy.

    Args:
        trainer: Has the loggers.
        model: Not used; Lightning's command line passes it.
        datamodule: Has the tasks.
        completions: A JSON-lines file. Each row has ``task``, ``completion``, and either the ``uid`` of an
            example or its ``question`` and ``reference``.
    """
    try:
        groups = score_completions(Path(completions), datamodule.tasks, datamodule.seed)
    finally:
        datamodule.teardown("score")
    console = Console()
    console.print(reward_table(groups))
    console.print(reward_summary(groups))
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "score", "mlflow.runName": "score"})
            logger.artifacts.table(rollout_table(groups, 0), "scores.json")
            console.print(f"also in run {logger.run_id}, artifact scores.json", highlight=False)
            logger.finalize("success")


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
        completer: PolicyCompleter | SavedCompletions = SavedCompletions(Path(completions))
        identity = {"rescored": time.strftime("%Y%m%d-%H%M%S"), **completer.identity}
    else:
        completer = _policy_completer(trainer, model, ckpt_path)
        identity = completer.identity
        for suite in suites.values():
            suite.task.rubric.attach(model.policy, model.engine)
    directory = Path(output) if output else default_output(Path(trainer.default_root_dir), identity)
    console = Console(quiet=not trainer.is_global_zero)
    console.print(f"Completions and results: {directory}", highlight=False)
    try:
        with benchmark_progress(console) as on_progress:
            sharded, longest = ShardedWork(model.barrier), model.sampling.max_tokens
            scores = SuiteRunner(directory, completer, data.seed, longest, chunk, on_progress, sharded).run_all(suites)
    finally:
        data.teardown("validate")
    domains = score_domains(scores, domain_members(data.tasks, data.benchmarks, suites))
    if trainer.is_global_zero:
        _publish(trainer, console, directory, list(scores.values()), domains)
    missing = [name for name, score in scores.items() if score.score is None]
    if missing:
        raise BadInput(f"no score for {', '.join(missing)}; see above, mend the cause and run the same again")


def _policy_completer(trainer: L.Trainer, model: PolicyModule, ckpt_path: str | None) -> PolicyCompleter:
    model.load()  # not configure_model, which may load a reference too
    checkpoint = None if ckpt_path is None else Path(ckpt_path)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    model.to(trainer.strategy.root_device)
    model.engine.attach(model.policy)
    return PolicyCompleter(model.policy, model.engine, model.policy_name, checkpoint)


def load_weights(model: PolicyModule, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a module.

    Raises:
        BadInput: If it is damaged, or of another policy.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if model.adapter is not None:
            check_adapter(found, model)  # the frozen weights are not in the checkpoint
        model.load_state_dict(found["state_dict"], strict=model.strict_loading)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise BadInput(
            f"--ckpt_path: {checkpoint} is damaged, or a checkpoint of another policy than model.policy="
            f"{model.policy_name} ({first}); give the config of the run that wrote it"
        ) from error


def _publish(
    trainer: L.Trainer, console: Console, directory: Path, scores: list[SuiteScore], domains: list[DomainScore]
) -> None:
    """Show results on the screen, and write them to ``results.json`` and MLflow."""
    results = write_results(directory, scores, domains)
    console.print(benchmark_table(scores, domains))
    for line in problems(scores, domains):
        console.print(line, style="red", highlight=False, markup=False)
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "validate", "mlflow.runName": f"validate {directory.name}"})
            logger.log_metrics(suite_metrics(scores, domains))
            for file in (results, *(directory / f"{score.name}.jsonl" for score in scores)):
                if file.is_file():
                    logger.artifacts.file(file, "benchmarks")
            console.print(f"also in run {logger.run_id}", highlight=False)
            logger.finalize("success")
