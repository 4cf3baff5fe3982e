"""The verb ``validate``: a policy on benchmarks."""

from __future__ import annotations

import pickle
import time
from functools import partial
from pathlib import Path

import lightning as L
import torch
from rich.console import Console

from omnithink_pl.adapter import check_adapter
from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.benchmark_runner import BenchmarkRunner
from omnithink_pl.evaluation.benchmark_score import BenchmarkScore, DomainScore, score_domains
from omnithink_pl.evaluation.completers import Completer, PolicyCompleter, SavedCompletions
from omnithink_pl.evaluation.validation import (
    benchmark_metrics,
    choose_benchmarks,
    default_output,
    domain_members,
    run_benchmarks,
    write_results,
)
from omnithink_pl.modules import PolicyModule
from omnithink_pl.modules.division import Division, check_divisible
from omnithink_pl.modules.processes import check_processes
from omnithink_pl.report.benchmark_table import benchmark_progress, benchmark_table, problems
from omnithink_pl.tracking import TrackingLogger


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
    """Evaluate a policy or a checkpoint on benchmarks; continues where it stopped. Processes divide the prompts.

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
    datamodule: MultiTaskData,
    ckpt_path: str | None,
    benchmarks: str | None,
    completions: str | None,
    output: str | None,
    chunk: int,
) -> None:
    """The same, in each process."""
    trainer.strategy.setup_environment()
    check_processes(trainer.world_size)
    model.peers.open(model)
    division = Division(model.peers)
    chosen = choose_benchmarks(datamodule, benchmarks)
    completer = SavedCompletions(Path(completions)) if completions else _completer(trainer, model, ckpt_path)
    if isinstance(completer, PolicyCompleter):
        for benchmark in chosen.values():
            benchmark.task.rubric.attach(model.policy, model.engine)
    stamp = {"rescored": time.strftime("%Y%m%d-%H%M%S")} if completions else {}
    place = default_output(Path(trainer.default_root_dir), stamp | completer.identity())
    directory = Path(output) if output else place
    console = Console(quiet=not trainer.is_global_zero)
    console.print(f"Completions and results: {directory}", highlight=False)
    try:
        with benchmark_progress(console) as tell:
            longest = model.sampling.max_tokens
            runner = BenchmarkRunner(directory, completer, datamodule.seed, longest, chunk, tell, division)
            scores = run_benchmarks(runner, chosen)
    finally:
        datamodule.teardown("validate")
    domains = score_domains(scores, domain_members(datamodule, chosen))
    if trainer.is_global_zero:
        _tell(trainer, console, directory, list(scores.values()), domains)
    missing = [name for name, score in scores.items() if score.score is None]
    if missing:
        raise BadInput(f"no score for {', '.join(missing)}; see above, mend the cause and run the same again")


def _completer(trainer: L.Trainer, model: PolicyModule, ckpt_path: str | None) -> Completer:
    model.load()  # not configure_model, which may load a reference too
    if ckpt_path is not None:
        load_weights(model, Path(ckpt_path))
    model.to(trainer.strategy.root_device)
    model.engine.attach(model.policy)
    return PolicyCompleter(
        model.policy, model.engine, model.policy_name, None if ckpt_path is None else Path(ckpt_path)
    )


def _tell(
    trainer: L.Trainer, console: Console, directory: Path, scores: list[BenchmarkScore], domains: list[DomainScore]
) -> None:
    """On the screen, in ``results.json`` and in MLflow."""
    results = write_results(directory, scores, domains)
    console.print(benchmark_table(scores, domains))
    for line in problems(scores, domains):
        console.print(line, style="red", highlight=False, markup=False)
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "validate", "mlflow.runName": f"validate {directory.name}"})
            logger.log_metrics(benchmark_metrics(scores, domains))
            for file in (results, *(directory / f"{score.name}.jsonl" for score in scores)):
                if file.is_file():
                    logger.artifacts.file(file, "benchmarks")
            console.print(f"also in run {logger.run_id}", highlight=False)
            logger.finalize("success")


def load_weights(model: PolicyModule, checkpoint: Path) -> None:
    """Give a module the weights of a checkpoint.

    Raises:
        BadInput: If it is damaged, or of another policy.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if model.adapter is not None:
            check_adapter(found, model)  # beside the frozen weights, which are not in it
        model.load_state_dict(found["state_dict"], strict=model.strict_loading)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise BadInput(
            f"--ckpt_path: {checkpoint} is damaged, or a checkpoint of another policy than model.policy="
            f"{model.policy_name} ({first}); give the config of the run that wrote it"
        ) from error
