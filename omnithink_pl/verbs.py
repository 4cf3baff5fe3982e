"""What ``main.py`` does with a trainer beside training: budget, prepare, score, validate."""

from __future__ import annotations

import pickle
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console
from rich.progress import track

from omnithink_pl.data import MultiTaskData
from omnithink_pl.distributed.collectives import check_processes
from omnithink_pl.distributed.shard_work import ShardedWork, check_divisible
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
from omnithink_pl.model.policy import load_tokenizer, policy_path
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.console import (
    benchmark_progress,
    benchmark_table,
    data_table,
    filter_columns,
    filter_table,
    memory_table,
    problems,
    reward_summary,
    reward_table,
    speed_table,
)
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.artifacts import rollout_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from omnithink_pl.sources.curation import Report, Track
    from omnithink_pl.tasks.base import Task


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
        optimizer_offloaded=model.memory.offload_optimizer,
        prompts=datamodule.batch_size,
        group_size=model.sampling.group_size,
        tokens=prompt_tokens + (completion_tokens or longest // 2),
        longest=prompt_tokens + longest,
        micro_batch_tokens=model.memory.micro_batch_tokens,
        updates=model.rollouts.updates_per_batch,
        checkpointing=model.memory.gradient_checkpointing,
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


def prepare(trainer: L.Trainer, model: PolicyModule, datamodule: MultiTaskData) -> None:
    """Download, curate and cache the data of every task, so that `fit` starts at once and without a network.

    What is done already is not done again; of a hub's branch it is asked whether it has moved. Loads no policy,
    only its tokenizer.

    Args:
        trainer: Has the loggers.
        model: Knows the policy's name.
        datamodule: Has the tasks.
    """
    console = Console()
    tokenizer = load_tokenizer(model.policy_name)
    prepared: list[Prepared] = []
    try:
        for task in datamodule.tasks.values():
            shown = partial(track, console=console, transient=True, disable=not console.is_terminal)
            prepared.append(prepare_task(task, tokenizer, datamodule.seed, shown))
            if (report := prepared[-1].report) is not None:
                console.print(filter_table(task.name, report))
    finally:
        datamodule.teardown("prepare")
    console.print(data_table(prepared))
    _track(trainer, prepared, console)


def _track(trainer: L.Trainer, prepared: list[Prepared], console: Console) -> None:
    reports = {found.task: found.report for found in prepared if found.report is not None}
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.set_tags({"kind": "prepare", "mlflow.runName": "prepare"})
            logger.log_metrics({name: value for found in prepared for name, value in found.metrics().items()})
            logger.artifacts.table(filter_columns(reports), "data.json")
            for name, report in reports.items():
                logger.artifacts.json(asdict(report), f"data/{name}.json")
            console.print(f"also in run {logger.run_id}, artifacts data.json and data/", highlight=False)
            logger.finalize("success")


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
    model.barrier.setup(model)
    sharded = ShardedWork(model.barrier)
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
            runner = BenchmarkRunner(directory, completer, datamodule.seed, longest, chunk, tell, sharded)
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


@dataclass(frozen=True)
class Prepared:
    """What a task's data came to.

    Args:
        task: Its name.
        report: What became of the rows; ``None`` for embedded ones and for sources that are not curated.
        train: Tokens of each training prompt, templates included.
        test: Tokens of each held-out prompt.
    """

    task: str
    report: Report | None
    train: tuple[int, ...]
    test: tuple[int, ...]

    def metrics(self) -> dict[str, float]:
        """Rows and tokens, as they are logged."""
        prefix = f"data/{self.task}"
        lengths = self.train or (0,)
        return {
            f"{prefix}/train_rows": float(len(self.train)),
            f"{prefix}/test_rows": float(len(self.test)),
            f"{prefix}/prompt_tokens_mean": sum(lengths) / len(lengths),
            f"{prefix}/prompt_tokens_max": float(max(lengths)),
        }


def prepare_task(task: Task, tokenizer: PreTrainedTokenizerBase, seed: int, track: Track) -> Prepared:
    """Download and curate a task's data where that is not done yet, and measure its prompts.

    Args:
        task: Has the source.
        tokenizer: The policy's.
        seed: Of the prompts.
        track: Shows progress through a sequence.

    Raises:
        BadInput: If the data cannot be had or a row cannot be used; names source, row and cure.
    """
    source = task.source
    report = source.prepare(track, refresh=True) if isinstance(source, CuratedSource) else None
    lengths = {
        split: tuple(
            len(tokenizer.apply_chat_template(list(example.messages), add_generation_prompt=True, return_dict=False))
            for example in track(task.examples(split, seed), f"{task.name}: counting tokens")
        )
        for split in ("train", "test")
    }
    return Prepared(task.name, report, lengths["train"], lengths["test"])
