"""What ``main.py`` does with a trainer beside training: budget, prepare, score, validate."""

from __future__ import annotations

from typing import final

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.prepare import prepare
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.score import score
from omnithink_pl.evaluation.validate import validate
from omnithink_pl.model.budget import Machine, Settings, Sizes, memory, seconds
from omnithink_pl.model.logprobs import LOGITS
from omnithink_pl.model.policy import policy_path
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.console import (
    memory_table,
    speed_table,
)


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


@final
class OmniThinkTrainer(L.Trainer):
    """Also prepares data, evaluates on benchmarks, scores completions, and says what a run needs."""

    budget = budget
    prepare = prepare
    score = score
    validate = validate  # type: ignore[assignment]  # Lightning's computes a loss over a loader; we have none
