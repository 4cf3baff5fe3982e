"""Micro-batches of a training forward: how completions are split over them, and padding passes of sharded models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from omnithink_pl.distributed.collectives import max_over_processes
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.sharding import sharded_modules


class Part(NamedTuple):
    """Some completions of one group."""

    group: int  # index of the group in the batch
    completions: tuple[int, ...]  # indices of the completions in the group, ascending


class _SizedPart(NamedTuple):
    """A part with its size in a tensor: one packed stretch of ``longest`` tokens, or padded rows."""

    part: Part
    rows: int
    longest: int


def split_micro_batches(
    groups: Sequence[tuple[int, Sequence[int]]], token_budget: int, share_prompt: bool = True
) -> list[tuple[Part, ...]]:
    """Split the completions of a batch into micro-batches, keeping siblings together where they fit.

    With ``share_prompt`` a part is its prompt and its completions, all parts in one row without padding, as
    :func:`omnithink_pl.model.packing.pack_rows` lays them out; without, every completion is a row with its own prompt,
    and rows of similar length share a micro-batch, which saves padding. The result depends on the lengths alone.

    Args:
        groups: Tokens of the prompt and of each completion, for every group.
        token_budget: Most tokens of a micro-batch, padding included. A completion that exceeds it with its prompt
            has a micro-batch to itself.
        share_prompt: Whether a prompt is computed once for the completions of a part.

    Returns:
        Micro-batches, each of which has at most one part of a group. Every completion occurs exactly
        once; a group without completions does not occur.
    """
    sized = [
        part
        for index, (prompt, completions) in enumerate(groups)
        for part in _cut(index, prompt, completions, token_budget, share_prompt)
    ]
    batches: list[list[_SizedPart]] = []
    for part in sorted(sized, key=lambda part: -part.longest):
        # Longest first. A padded row joins rows of its own length; without padding, any micro-batch with room will do.
        for batch in batches if share_prompt else batches[-1:]:
            has_sibling = any(other.part.group == part.part.group for other in batch)
            if not has_sibling and _tokens([*batch, part], share_prompt) <= token_budget:
                batch.append(part)
                break
        else:
            batches.append([part])
    return [tuple(one.part for one in batch) for batch in batches]


def _cut(group: int, prompt: int, completions: Sequence[int], budget: int, share_prompt: bool) -> list[_SizedPart]:
    """Cut a group where the budget is full, longest completions first."""

    def sized(taken: list[int]) -> _SizedPart:
        return _sized(Part(group, tuple(sorted(taken))), prompt, completions, share_prompt)

    parts: list[_SizedPart] = []
    taken: list[int] = []
    for index in sorted(range(len(completions)), key=lambda index: -completions[index]):
        if taken and _tokens([sized([*taken, index])], share_prompt) > budget:
            parts.append(sized(taken))
            taken = []
        taken.append(index)
    return [*parts, sized(taken)] if taken else parts


def _sized(part: Part, prompt: int, completions: Sequence[int], share_prompt: bool) -> _SizedPart:
    lengths = [completions[index] for index in part.completions]
    if share_prompt:
        return _SizedPart(part, 1, prompt + sum(lengths))
    return _SizedPart(part, len(lengths), prompt + max(lengths))


def _tokens(parts: Sequence[_SizedPart], share_prompt: bool) -> int:
    """Size of the tensor that holds the parts, padding included."""
    if share_prompt:
        return sum(part.longest for part in parts)
    return sum(part.rows for part in parts) * max(part.longest for part in parts)


def balanced_micro_batches(
    groups: Sequence[tuple[int, Sequence[int]]], token_budget: int, share_prompt: bool, processes: int
) -> list[list[tuple[Part, ...]]]:
    """Split the completions of a whole batch into micro-batches of every process.

    In every pass of a sharded model each layer is gathered from all processes, so that a pass takes as long as its
    largest micro-batch, and a process without one waits. So all get equally many, and those that are computed at the
    same time are of similar size: the budget is lowered as far as no further pass is needed. For example, 9 full
    micro-batches on 8 processes need two passes; they become 16, little more than half full.

    Args:
        groups: Of all processes; in every one of them the same.
        token_budget: As of :func:`split_micro_batches`.
        share_prompt: Likewise.
        processes: Their number. One has the largest micro-batches that fit.

    Returns:
        The micro-batches of each process, which are equally many unless there are fewer completions than that.
    """
    batches = split_micro_batches(groups, token_budget, share_prompt)
    if processes == 1:
        return [batches]
    places = math.ceil(len(batches) / processes) * processes
    low, high = 0, token_budget
    while high - low > max(1, token_budget // 64):
        budget = (low + high) // 2
        tried = split_micro_batches(groups, budget, share_prompt)
        low, high = (low, budget) if len(tried) <= places else (budget, high)
        batches = tried if len(tried) <= places else batches

    def size(batch: tuple[Part, ...]) -> int:
        return _tokens([_sized(part, *groups[part.group], share_prompt) for part in batch], share_prompt)

    batches.sort(key=size, reverse=True)
    while len(batches) < places and (large := next((one for one in batches if _completions(one) > 1), None)):
        batches.remove(large)
        batches = sorted([*batches, *_halves(large)], key=size, reverse=True)
    rows = [batches[first : first + processes] for first in range(0, len(batches), processes)]
    dealt = [row if number % 2 == 0 else row[::-1] for number, row in enumerate(rows)]  # the largest to each in turn
    return [[row[rank] for row in dealt if rank < len(row)] for rank in range(processes)]


def _completions(batch: tuple[Part, ...]) -> int:
    return sum(len(part.completions) for part in batch)


def _halves(batch: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    if len(batch) > 1:
        return batch[::2], batch[1::2]
    ((group, completions),) = batch
    return (Part(group, completions[::2]),), (Part(group, completions[1::2]),)


class Passes:
    """The forward and backward passes of a process over its micro-batches, padding passes included."""

    def __init__(
        self, model: PreTrainedModel, total: int, backward: Callable[[Tensor], None] | None, reduce_once: bool
    ) -> None:
        self.total = total
        self._done = 0
        self._backward = backward
        self._reduced_late = sharded_modules(model) if reduce_once else []

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a pass; gradients are summed over processes in the last one if only once."""
        assert self._backward is not None
        self._done += 1
        for module in self._reduced_late:
            module.set_requires_gradient_sync(self._done == self.total, recurse=False)
        self._backward(loss)


@contextmanager
def padding_passes(
    model: PreTrainedModel,
    passes: int,
    backward: Callable[[Tensor], None] | None = None,
    reduce_once: bool = False,
) -> Iterator[Passes]:
    """Run padding passes after those inside, until every process has run as many; only if the model is sharded.

    In every pass each layer is gathered from all processes, so one that ended earlier would leave the others waiting.

    Args:
        model: The policy, or its reference.
        passes: Passes of this process inside.
        backward: Called with the loss of each pass. That of padding passes is 0 and has a gradient of 0. Not given
            where there is no backward pass.
        reduce_once: Sum the gradients of a sharded model in the last pass alone.

    Yields:
        The passes of this process, padding included; call their ``backward``.
    """
    # All processes agree before the first pass: afterwards those still computing would wait for layers.
    total = max_over_processes(passes, model.device) if sharded_modules(model) else passes
    every = Passes(model, total, backward, reduce_once)
    yield every
    for _ in range(total - passes):
        # The smallest batch: one prompt and one completion, of one token each.
        loss = 0.0 * token_logprobs(model, [(0,)], [[(0,)]], share_prompt=False).logprobs.sum()
        if backward is not None:
            every.backward(loss)
    if backward is None:
        for module in sharded_modules(model):
            module.reshard()  # the root stays gathered after a forward pass, until a backward pass
