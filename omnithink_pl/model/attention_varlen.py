"""Attention of a packed row by a variable-length kernel: every span's queries over its prompt's and its own keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from omnithink_pl.model.packing import Span

HALF = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256  # numbers of a head that the kernel takes


@dataclass(frozen=True)
class VarlenAttention:
    """FlashAttention (Dao 2023, "FlashAttention-2", arXiv 2307.08691) as PyTorch contains it, in one call for a row.

    Each span is a sequence of the kernel's. Its queries lie in the row as they are; its keys are those of its prompt,
    then its own, for which the prompt's are gathered once more for each completion: a thousandth of the activations of
    a layer where keys and values are shared by many heads. The causal mask of sequences with more keys than queries is
    aligned to their ends, so that every query attends to the whole prompt. Nothing else is computed, and no head is
    copied.
    """

    keys: Tensor  # ``[keys]`` index in the row of each span's keys, span by span
    query_ends: Tensor  # ``[spans + 1]`` int32, where each span's queries begin and the last one's end
    key_ends: Tensor  # ``[spans + 1]`` int32, likewise of keys
    most_queries: int  # of a span
    most_keys: int

    @staticmethod
    def supports(query: Tensor) -> bool:
        """Return whether the kernel is there for queries ``[tokens, heads, size]``: half precision, Ampere or later."""
        return (
            query.is_cuda
            and query.dtype in HALF
            and query.shape[-1] <= LARGEST_HEAD
            and query.shape[-1] % 8 == 0
            and torch.cuda.is_available()  # fake tensors are on a GPU where there is none
            and torch.backends.cuda.is_flash_attention_available()
            and torch.cuda.get_device_capability(query.device) >= (8, 0)
        )

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device) -> VarlenAttention:
        """Lay out a row's spans, which follow each other without gaps."""
        ranges = [
            torch.arange(start, start + length)
            for span in spans
            for start, length in ((span.prefix, span.prefix_length), (span.start, span.length))
        ]
        queries = [span.length for span in spans]
        keys = [span.prefix_length + span.length for span in spans]

        def ends(lengths: Sequence[int]) -> Tensor:
            return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)

        return cls(torch.cat(ranges).to(device), ends(queries), ends(keys), max(queries), max(keys))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Compute softmax attention from and to ``[tokens, heads, size]``; keys and values may have fewer heads."""
        # By way of float32, in which the gradients of a prompt's keys are then summed over its completions: summed in
        # bfloat16, they were four to five times as far from exact ones (docs/gpu.md).
        keys, values = (part.float().index_select(0, self.keys).to(part.dtype) for part in (key, value))
        return varlen_kernel(
            query, keys, values, self.query_ends, self.key_ends, self.most_queries, self.most_keys, scale
        )


def varlen_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    most_queries: int,
    most_keys: int,
    scale: float | None,
) -> Tensor:
    """Attend causally within each of several sequences, whose last query attends to all of its sequence's keys.

    Not ``torch.nn.attention.varlen.varlen_attn``, which calls the same operation: its arguments differ from one release
    to the next.
    """
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, query_ends, key_ends, most_queries, most_keys, 0.0, True, False, scale=scale
    )[0]
    return output
