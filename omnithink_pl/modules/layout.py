"""How prompts and completions lie in one tensor for a training forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Tokens = Sequence[int]
Padding = Literal["left", "right"]

_PROMPT, _PAD = 0, -1


@dataclass(frozen=True)
class Layout:
    """A batch for a causal language model, and where each completion token is predicted.

    Args:
        tokens: Token ids of shape [rows, width]; padding is token 0.
        positions: Position of each token in its own sequence, of the same shape.
        segments: 0 for a prompt, 1, 2, ... for a row's completions, -1 for padding; of the same shape.
        source: Index into the flattened [rows * width] of the token that predicts each completion token.
        lengths: Tokens of each completion, in group order.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    source: Tensor
    lengths: tuple[int, ...]

    def padding_mask(self) -> Tensor:
        """1 for a token, 0 for padding: int64 of shape [rows, width]."""
        return (self.segments != _PAD).long()

    def tree_mask(self, dtype: torch.dtype) -> Tensor:
        """What to add to attention scores so that a completion sees its prompt and itself only.

        Returns:
            0 where a query may see a key and the dtype's lowest number elsewhere, of shape
            [rows, 1, width, width]. Padding sees something, lest its softmax be empty.
        """
        query, key = self.segments.unsqueeze(-1), self.segments.unsqueeze(-2)
        seen = ((key == _PROMPT) | (key == query)).tril()
        lowest = torch.finfo(dtype).min
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest).unsqueeze(1)


def packed(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]], padding: Padding) -> Layout:
    """One row a group: its prompt once, then its completions one after another.

    Every completion starts at the position behind the prompt; ``Layout.tree_mask`` keeps siblings apart.
    Only the ends of the rows are padded, not each completion.
    """
    rows = [_Row.of(prompt, siblings) for prompt, siblings in zip(prompts, completions, strict=True)]
    return _stack(rows, padding)


def separate(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]], padding: Padding) -> Layout:
    """One row a completion, with its own copy of the prompt before it."""
    pairs = zip(prompts, completions, strict=True)
    return _stack([_Row.of(prompt, [one]) for prompt, siblings in pairs for one in siblings], padding)


@dataclass(frozen=True)
class _Row:
    tokens: list[int]
    positions: list[int]
    segments: list[int]
    source: list[int]
    lengths: list[int]

    @classmethod
    def of(cls, prompt: Tokens, siblings: Sequence[Tokens]) -> _Row:
        if not prompt or not all(siblings):
            raise ValueError("a prompt and each of its completions need at least one token")
        start = len(prompt)
        row = cls([*prompt], [*range(start)], [_PROMPT] * start, [], [])
        for number, completion in enumerate(siblings, 1):
            here, length = len(row.tokens), len(completion)
            # The prompt's last token predicts the first of each completion.
            row.source.extend([start - 1, *range(here, here + length - 1)])
            row.tokens.extend(completion)
            row.positions.extend(range(start, start + length))
            row.segments.extend([number] * length)
            row.lengths.append(length)
        return row


def _stack(rows: Sequence[_Row], padding: Padding) -> Layout:
    width = max(len(row.tokens) for row in rows)
    left = [width - len(row.tokens) if padding == "left" else 0 for row in rows]

    def filled(values: list[list[int]], fill: int) -> Tensor:
        pairs = zip(left, values, strict=True)
        return torch.tensor([[fill] * pad + v + [fill] * (width - pad - len(v)) for pad, v in pairs])

    offsets = (number * width + pad for number, pad in enumerate(left))
    return Layout(
        tokens=filled([row.tokens for row in rows], 0),
        positions=filled([row.positions for row in rows], 0),
        segments=filled([row.segments for row in rows], _PAD),
        source=torch.tensor([o + place for o, row in zip(offsets, rows, strict=True) for place in row.source]),
        lengths=tuple(length for row in rows for length in row.lengths),
    )
