"""What ``main.py`` does with a trainer beside training: budget, prepare, score, validate."""

from __future__ import annotations

import pickle
import time
from functools import partial
from pathlib import Path
from typing import final

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.prepare import prepare
from omnithink_pl.distributed.collectives import check_processes
from omnithink_pl.distributed.shard_work import Division, check_divisible
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completers import Completer, PolicyCompleter, SavedCompletions, score_completions
from omnithink_pl.evaluation.suite_runner import (
    BenchmarkRunner,
    BenchmarkScore,
    DomainScore,
    benchmark_metrics,
    choose_benchmarks,
    default_output,
    domain_members,
    run_benchmarks,
    score_domains,
    write_results,
)
from omnithink_pl.model.adapter import check_adapter
from omnithink_pl.model.budget import Machine, Settings, Sizes, memory, seconds
from omnithink_pl.model.logprobs import LOGITS
from omnithink_pl.model.policy import policy_path
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.console import (
    benchmark_progress,
    benchmark_table,
    memory_table,
    problems,
    reward_summary,
    reward_table,
    speed_table,
)
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.artifacts import rollout_table


def budget(
    trainer: L.Trainer,
    model: MultiTaskGRPO,
    datamodule: MultiTaskData,
    gpus: int | None = None,
    sharded: bool | None = None,
    prompt_tokens: int = 256,
    completion_tokens: int | None = None,
    machine: Machine = Machine(),  # noqa: B008  (frozen)
) -> None:
    """Print what a run needs of each GPU and how fast it is at best, by arithmetic; needs no GPU, loads no weights.

    Args:
        trainer: Has the precision; Lightning's command line passes it.
        model: What is trained; Lightning's command line passes it.
        datamodule: Has the batch size.
        gpus: Processes; the trainer's ``devices`` times ``num_nodes`` if not given.
        sharded: Divide the model among them; if not given, whether the trainer's strategy does.
        prompt_tokens: Of a prompt, on average.
        completion_tokens: Of a completion, on average; half of the longest if not given.
        machine: One of the GPUs.
    """
    sizes = _sizes(model)
    longest = model.sampling.max_tokens
    settings = Settings(
        gpus=gpus or 1,
        sharded=bool(sharded),
        weights=model.adapter.weights if model.adapter else "float32",
        compute="bfloat16" if str(trainer.precision).startswith("bf16") else "float32",
        adapted=model.adapter is not None,
        reference=any(model.kl.beta.values()),
        optimizer_bytes=optimizer_bytes(model.optimizer),
        optimizer_offloaded=model.offload_optimizer,
        prompts=datamodule.batch_size,
        group_size=model.sampling.n,
        tokens=prompt_tokens + (completion_tokens or longest // 2),
        longest=prompt_tokens + longest,
        micro_batch_tokens=model.micro_batch_tokens,
        updates=model.updates_per_batch,
        checkpointing=model.gradient_checkpointing,
        logits=LOGITS,
        engine_weights=getattr(model.engine, "dtype", None),
        rows=int(getattr(model.engine, "max_rows", getattr(model.engine, "batch_rows", 256))),
        cache_gib=getattr(model.engine, "kv_cache_gib", None),
    )
    console = Console()
    console.print(f"{sizes.parameters:,} parameters, {sizes.trained:,} trained, {settings.gpus} GPUs")
    console.print(memory_table(memory(sizes, settings), machine))
    console.print(speed_table(seconds(sizes, settings, machine), settings))


def optimizer_bytes(optimizer: OptimizerCallable) -> float:
    """Bytes of an optimiser's state for each parameter, found by one step on a small one."""
    parameter = torch.nn.Parameter(torch.zeros(4096))
    parameter.grad = torch.zeros_like(parameter)
    made = optimizer([parameter])
    made.step()
    state = made.state[parameter].values()
    return sum(value.nbytes for value in state if isinstance(value, torch.Tensor)) / parameter.numel()


def _sizes(model: PolicyModule) -> Sizes:
    from transformers import AutoConfig

    return Sizes.of(AutoConfig.from_pretrained(policy_path(_planned(model).policy_name)), model.adapter)


def _planned(model: PolicyModule) -> MultiTaskGRPO:
    if not isinstance(model, MultiTaskGRPO):
        raise BadInput(f"model.class_path: budget plans MultiTaskGRPO, not {type(model).__name__}")
    return model


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


@final
class OmniThinkTrainer(L.Trainer):
    """Also prepares data, evaluates on benchmarks, scores completions, and says what a run needs."""

    budget = budget
    prepare = prepare
    score = score
    validate = validate  # type: ignore[assignment]  # Lightning's computes a loss over a loader; we have none
