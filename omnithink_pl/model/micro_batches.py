"""Micro-batches of a training forward: how completions are split over them, and padding passes of sharded models."""

from __future__ import annotations

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
        lengths = [completions[index] for index in taken]
        part = Part(group, tuple(sorted(taken)))
        if share_prompt:
            return _SizedPart(part, 1, prompt + sum(lengths))
        return _SizedPart(part, len(taken), prompt + max(lengths))

    parts: list[_SizedPart] = []
    taken: list[int] = []
    for index in sorted(range(len(completions)), key=lambda index: -completions[index]):
        if taken and _tokens([sized([*taken, index])], share_prompt) > budget:
            parts.append(sized(taken))
            taken = []
        taken.append(index)
    return [*parts, sized(taken)] if taken else parts


def _tokens(parts: Sequence[_SizedPart], share_prompt: bool) -> int:
    """Size of the tensor that holds the parts, padding included."""
    if share_prompt:
        return sum(part.longest for part in parts)
    return sum(part.rows for part in parts) * max(part.longest for part in parts)


@contextmanager
def padding_passes(
    model: PreTrainedModel, passes: int, backward: Callable[[Tensor], None] | None = None
) -> Iterator[int]:
    """Run padding passes after those inside, until every process has run as many; only if the model is sharded.

    In every pass each layer is gathered from all processes, so one that ended earlier would leave the others waiting.

    Args:
        model: The policy, or its reference.
        passes: Passes of this process inside.
        backward: Called with the padding passes' loss, which is 0 and has a gradient of 0; not given where there is no
            backward pass.

    Yields:
        Passes of this process, padding included.
    """
    # All processes agree before the first pass: afterwards those still computing would wait for layers.
    total = max_over_processes(passes, model.device) if sharded_modules(model) else passes
    yield total
    for _ in range(total - passes):
        # The smallest batch: one prompt and one completion, of one token each.
        loss = 0.0 * token_logprobs(model, [(0,)], [[(0,)]], share_prompt=False).logprobs.sum()
        if backward is not None:
            backward(loss)
    if backward is None:
        for module in sharded_modules(model):
            module.reshard()  # the root stays gathered after a forward pass, until a backward pass
