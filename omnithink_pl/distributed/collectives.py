"""Sums, gradients and records over all processes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import full

BUCKET = 64 << 20  # bytes; above some tens of MiB a network is as fast as it gets

T = TypeVar("T")
N = TypeVar("N", int, float)


def process_count() -> int:
    """Return the world size; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the rank of this process; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def check_processes(expected: int) -> None:
    """Refuse to run where processes would silently each train a policy of their own."""
    if process_count() != expected:
        raise RuntimeError(
            f"the process group has {process_count()} processes, Lightning counts {expected}: something made a group "
            f"before the trainer did; build engines in attach, and nothing distributed before fit"
        )


def sum_over_processes(numbers: Sequence[N], device: torch.device) -> list[N]:
    """Sum each number over all processes."""
    if process_count() == 1:
        return list(numbers)
    total = torch.tensor(numbers, device=device)
    dist.all_reduce(total)
    return total.tolist()


def max_over_processes(number: int, device: torch.device) -> int:
    """Return the largest of the processes' numbers."""
    if process_count() == 1:
        return number
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def gather_rows(rows: list[T]) -> list[T]:
    """Gather the rows of all processes, in the order of the whole batch: the first of each, then the second of each."""
    if process_count() == 1:
        return rows
    parts: list[list[T]] = [[] for _ in range(process_count())]
    dist.all_gather_object(parts, rows)
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]


def no_gradient_sync(model: object) -> AbstractContextManager[None]:
    """Keep DistributedDataParallel from averaging gradients in the backward passes inside.

    Processes differ in their number of micro-batches; hooks that communicate in each would deadlock. Afterwards
    :func:`sum_gradients` does it once. A strategy that wraps the model in something else is refused.
    """
    from lightning import LightningModule  # a forward pass alone, as a benchmark runs it, needs no Lightning

    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    if not isinstance(model, LightningModule):
        raise BadInput(
            f"trainer.strategy reduces gradients on its own, in {type(model).__name__}: they would be added up twice; "
            f"use auto, ddp, or FSDP2Strategy as in configs/scale/fsdp.yaml"
        )
    return nullcontext()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Make every process's gradient that of the whole batch.

    The loss of a batch is the sum of the losses of its parts, so gradients are summed, not averaged; token-weighted
    means over the whole batch are in the losses' weights already. Those of a sharded model have been summed by its
    backward pass. Tensors are reduced in buckets: a network is slow at many small messages.
    """
    if process_count() == 1:
        return
    bucket: list[torch.Tensor] = []
    for parameter in parameters:
        if not parameter.requires_grad or isinstance(parameter, DTensor):
            continue
        if parameter.grad is None:  # this process had no backward pass
            parameter.grad = torch.zeros_like(parameter)
        gradient = parameter.grad
        full_bucket = sum(one.nbytes for one in bucket) + gradient.nbytes > BUCKET
        if bucket and (full_bucket or bucket[0].dtype != gradient.dtype):
            _sum_bucket(bucket)
            bucket = []
        bucket.append(gradient)
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(gradients: Sequence[torch.Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_gradients(parameters: Iterable[torch.nn.Parameter], max_norm: float) -> float:
    """Scale all gradients together to a norm of at most ``max_norm``; return the norm before, in every process."""
    return float(full(torch.nn.utils.clip_grad_norm_(parameters, max_norm)))
