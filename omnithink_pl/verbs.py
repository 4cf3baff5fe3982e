"""Lightning's Trainer with further verbs, and the verb ``budget``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from rich.console import Console

from omnithink_pl.data import MultiTaskData
from omnithink_pl.data.prepare import prepare
from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.score import score
from omnithink_pl.evaluation.validate import validate
from omnithink_pl.model.architecture import load_config
from omnithink_pl.model.budget import Machine, Settings, Sizes, memory, room_for_layers, seconds
from omnithink_pl.model.logprobs import chunk_of_logits
from omnithink_pl.model.policy import find_policy
from omnithink_pl.modules import MultiTaskGRPO, PolicyModule
from omnithink_pl.report.console import memory_table, speed_table


def budget(
    trainer: L.Trainer,
    model: PolicyModule,
    datamodule: MultiTaskData,
    gpus: int | None = None,
    sharded: bool | None = None,
    prompt_tokens: int = 256,
    completion_tokens: int | None = None,
    machine: Machine = Machine(),  # noqa: B008  (frozen)
) -> None:
    """Print memory per GPU and a lower bound of the time per step, by arithmetic; needs no GPU, loads no weights.

    Args:
        trainer: Has the precision.
        model: The module to be trained.
        datamodule: Has the batch size.
        gpus: Number of processes; by default the trainer's ``devices`` times ``num_nodes``.
        sharded: Whether the model is divided among them; by default whether the trainer's strategy does.
        prompt_tokens: Average length of a prompt.
        completion_tokens: Average length of a completion; by default half of the longest.
        machine: One of the GPUs.

    Raises:
        BadInput: If the module is not ``MultiTaskGRPO``.
    """
    if not isinstance(model, MultiTaskGRPO):
        raise BadInput(f"model.class_path: budget plans MultiTaskGRPO, not {type(model).__name__}")
    config = load_config(find_policy(model.policy_name), trust_remote_code=model.trust_remote_code)
    sizes = Sizes.of(config, model.adapter, model.trust_remote_code)
    settings = budget_settings(
        model,
        prompts=datamodule.batch_size,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens or model.sampling.max_tokens // 2,
        gpus=gpus or 1,
        sharded=bool(sharded),
        precision=str(trainer.precision),
        logits=chunk_of_logits(machine.memory_gib * 2**30),
    )
    console = Console()
    console.print(f"{sizes.parameters:,} parameters, {sizes.trained:,} trained, {settings.gpus} GPUs")
    console.print(memory_table(memory(sizes, settings, machine), machine))
    console.print(speed_table(seconds(sizes, settings, machine), settings))
    if hint := _room(sizes, settings, machine):
        console.print(hint, highlight=False, soft_wrap=True)


def _room(sizes: Sizes, settings: Settings, machine: Machine) -> str:
    """Return how many more layers could keep their activations, and what that saves; nothing if none could."""
    room = room_for_layers(sizes, settings, machine) if settings.checkpointing else 0
    if room <= settings.kept_layers:
        return ""
    update = seconds(sizes, replace(settings, kept_layers=room), machine)["update"]
    return (
        f"Within nine tenths of the memory {room} of {sizes.layers} layers can keep their activations: "
        f"--model.memory.kept_layers={room}, an update of {update:.1f} s"
    )


def budget_settings(
    model: MultiTaskGRPO, prompts: int, prompt_tokens: int, completion_tokens: int, precision: str, **run: Any
) -> Settings:
    """Return what memory and speed depend on, of a module and the run that it is for."""
    engine = model.engine
    return Settings(
        **run,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        tokens=prompt_tokens + completion_tokens,
        compute="bfloat16" if precision.startswith("bf16") else "float32",
        longest=prompt_tokens + model.sampling.max_tokens,
        weights=model.adapter.weights if model.adapter else "float32",
        adapted=model.adapter is not None,
        reference=model.kl.settings.penalises,
        optimizer_bytes=optimizer_bytes(model.optimizer),
        optimizer_offloaded=model.memory.offload_optimizer,
        group_size=model.sampling.group_size,
        micro_batch_tokens=model.memory.micro_batch_tokens,
        updates=model.rollouts.updates_per_batch,
        checkpointing=model.memory.gradient_checkpointing,
        kept_layers=model.memory.kept_layers,
        reference_offloaded=model.memory.offload_reference,
        reduce_once=model.memory.reduce_once,
        engine_weights=getattr(engine, "dtype", None),
        engine_share=getattr(engine, "gpu_memory_utilization", None),
        engine_sleeps=getattr(engine, "sleep", False),
        cuda_graphs=getattr(engine, "cuda_graphs", False),
        rows=int(getattr(engine, "max_rows", getattr(engine, "batch_rows", 256))),
        cache_gib=getattr(engine, "kv_cache_gib", None),
    )


def optimizer_bytes(optimizer: OptimizerCallable) -> float:
    """Return the bytes of an optimiser's state per parameter, measured by one step on a small tensor."""
    parameter = torch.nn.Parameter(torch.zeros(4096))
    parameter.grad = torch.zeros_like(parameter)
    made = optimizer([parameter])
    made.step()
    state = made.state[parameter].values()
    return sum(value.nbytes for value in state if isinstance(value, torch.Tensor)) / parameter.numel()


@final
class OmniThinkTrainer(L.Trainer):
    """Also prepares data, evaluates on benchmarks, scores completions, and plans the memory of a run."""

    budget = budget
    prepare = prepare
    score = score
    validate = validate  # type: ignore[assignment]  # Lightning's computes a loss over a loader; we have none
