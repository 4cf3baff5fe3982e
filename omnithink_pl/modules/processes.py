"""A batch whose prompts are divided among processes: sums, gradients and records of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
N = TypeVar("N", int, float)


def process_count() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Which of them this one is, from 0."""
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
    """
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Make every process's gradient that of the whole batch.

    The loss of a batch is the sum of the losses of its parts, so gradients are summed, not averaged.
    """
    if process_count() == 1:
        return
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:  # no completion of this process could be scored
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def gather_rows(rows: list[T]) -> list[T]:
    """The rows of all processes, in the order of the whole batch: the first of each, then the second of each."""
    if process_count() == 1:
        return rows
    parts: list[list[T]] = [[] for _ in range(process_count())]
    dist.all_gather_object(parts, rows)
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]
