"""What ``main.py`` does with a trainer beside training: budget, prepare, score, validate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console
from rich.progress import track

from omnithink_pl.data import MultiTaskData
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.score import score
from omnithink_pl.evaluation.validate import validate
from omnithink_pl.model.budget import Machine, Settings, Sizes, memory, seconds
from omnithink_pl.model.logprobs import LOGITS
from omnithink_pl.model.policy import load_tokenizer, policy_path
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.console import (
    data_table,
    filter_columns,
    filter_table,
    memory_table,
    speed_table,
)
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.tracking import TrackingLogger

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
