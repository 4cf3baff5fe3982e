"""A batch whose prompts are divided among processes: sums, gradients and records of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning import LightningModule
from torch.nn.parallel import DistributedDataParallel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import full

BUCKET = 64 << 20  # bytes; above some tens of MiB a network is as fast as it gets

T = TypeVar("T")
N = TypeVar("N", int, float)


def process_count() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def check_processes(expected: int) -> None:
    """Refuse to train where processes would each train a policy of their own without a sign of it.

    Raises:
        RuntimeError: If there are not as many processes in the group as Lightning counts.
    """
    if process_count() != expected:
        raise RuntimeError(
            f"the process group has {process_count()} processes, Lightning counts {expected}: something made a group "
            f"before the trainer did; build engines in attach, and nothing distributed before fit"
        )


def sum_over_processes(numbers: Sequence[N], device: torch.device) -> list[N]:
    """Each number summed over all processes."""
    if process_count() == 1:
        return list(numbers)
    total = torch.tensor(numbers, device=device)
    dist.all_reduce(total)
    return total.tolist()


def own_gradients(model: object) -> AbstractContextManager[None]:
    """Keep DistributedDataParallel from averaging gradients in the backward passes inside.

    Processes differ in their number of micro-batches; hooks that communicate in each would wait for each other for
    ever. Afterwards :func:`sum_gradients` does it once.

    Raises:
        BadInput: If the strategy wraps the model in something else.
    """
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    if not isinstance(model, LightningModule):
        raise BadInput(
            f"trainer.strategy reduces gradients on its own, in {type(model).__name__}: they would be added up twice; "
            f"use auto, ddp, or ModelParallelStrategy as in configs/scale/fsdp.yaml"
        )
    return nullcontext()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Make every process's gradient that of the whole batch.

    The loss of a batch is the sum of the losses of its parts, so gradients are summed, not averaged; token-weighted
    means over the whole batch are in the losses' weights already. Those of a sharded model have been summed by its
    backward pass. Tensors go together, about ``BUCKET`` bytes at a time: a network is slow at many small messages.
    """
    if process_count() == 1:
        return
    bucket: list[torch.Tensor] = []
    for parameter in parameters:
        if not parameter.requires_grad or hasattr(parameter, "full_tensor"):
            continue
        if parameter.grad is None:  # no completion of this process could be scored
            parameter.grad = torch.zeros_like(parameter)
        if bucket and (
            bucket[0].dtype != parameter.grad.dtype
            or sum(one.nbytes for one in bucket) + parameter.grad.nbytes > BUCKET
        ):
            _sum_together(bucket)
            bucket = []
        bucket.append(parameter.grad)
    _sum_together(bucket)


def _sum_together(gradients: Sequence[torch.Tensor]) -> None:
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_gradients(parameters: Iterable[torch.nn.Parameter], largest: float) -> float:
    """Scale all gradients down together until their norm is at most ``largest``; the norm before, in every process."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
    return float(full(norm))


def most_of_processes(number: int, device: torch.device) -> int:
    """The largest of the processes' numbers."""
    if process_count() == 1:
        return number
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def gather_rows(rows: list[T]) -> list[T]:
    """The rows of all processes, in the order of the whole batch: the first of each, then the second of each."""
    if process_count() == 1:
        return rows
    parts: list[list[T]] = [[] for _ in range(process_count())]
    dist.all_gather_object(parts, rows)
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]
