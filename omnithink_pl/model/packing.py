"""How prompts and completions lie in one tensor for a training forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Tokens = Sequence[int]
Padding = Literal["left", "right"]


class Span(NamedTuple):
    """Consecutive tokens of a packed row that see each other causally.

    Args:
        start: Index of the first.
        length: How many.
        prefix: Index of the first token of the prompt that all of them see.
        prefix_length: Tokens of that prompt; 0 for a prompt's own span.
    """

    start: int
    length: int
    prefix: int = 0
    prefix_length: int = 0


@dataclass(frozen=True)
class Layout:
    """A batch for a causal language model, and where each completion token is predicted.

    Args:
        tokens: Token ids of shape [rows, width]; padding is token 0.
        positions: Position of each token in its own sequence, of the same shape.
        mask: 1 for a token, 0 for padding, of the same shape.
        source: Index into the flattened [rows * width] of the token that predicts each completion token.
        targets: The completion tokens, in the same order.
        lengths: Tokens of each completion, in group order.
        spans: Who sees whom in a packed row, ascending; empty where every row is one sequence.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    source: Tensor
    targets: Tensor
    lengths: tuple[int, ...]
    spans: tuple[Span, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and completion."""
        return int(self.positions.max()) + 1


def packed(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]]) -> Layout:
    """One row without padding: each prompt once, behind it its completions one after another.

    Every completion starts at the position behind its prompt; the spans say that it sees that prompt and itself only.
    """
    tokens: list[int] = []
    positions: list[int] = []
    source: list[int] = []
    spans: list[Span] = []
    for prompt, siblings in zip(prompts, completions, strict=True):
        _check(prompt, siblings)
        start, behind = len(tokens), len(prompt)
        spans.append(Span(start, behind))
        tokens.extend(prompt)
        positions.extend(range(behind))
        for completion in siblings:
            here, length = len(tokens), len(completion)
            # The prompt's last token predicts the first of each completion.
            source.extend([start + behind - 1, *range(here, here + length - 1)])
            spans.append(Span(here, length, start, behind))
            tokens.extend(completion)
            positions.extend(range(behind, behind + length))
    row = torch.tensor([tokens])
    return Layout(
        tokens=row,
        positions=torch.tensor([positions]),
        mask=torch.ones_like(row),
        source=torch.tensor(source),
        targets=_targets(completions),
        lengths=_lengths(completions),
        spans=tuple(spans),
    )


def separate(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]], padding: Padding) -> Layout:
    """One row a completion, with its own copy of the prompt before it, padded to the longest."""
    rows: list[list[int]] = []
    starts: list[int] = []
    for prompt, siblings in zip(prompts, completions, strict=True):
        _check(prompt, siblings)
        rows += [[*prompt, *completion] for completion in siblings]
        starts += [len(prompt)] * len(siblings)
    width = max(map(len, rows))
    pads = [width - len(row) for row in rows]
    left = [pad if padding == "left" else 0 for pad in pads]

    def filled(values: Sequence[Sequence[int]]) -> Tensor:
        lines = zip(left, values, pads, strict=True)
        return torch.tensor([[0] * before + [*line] + [0] * (pad - before) for before, line, pad in lines])

    source = [
        number * width + before + place - 1
        for number, (row, start, before) in enumerate(zip(rows, starts, left, strict=True))
        for place in range(start, len(row))
    ]
    return Layout(
        tokens=filled(rows),
        positions=filled([range(len(row)) for row in rows]),
        mask=filled([[1] * len(row) for row in rows]),
        source=torch.tensor(source),
        targets=_targets(completions),
        lengths=_lengths(completions),
    )


def _check(prompt: Tokens, siblings: Sequence[Tokens]) -> None:
    if not prompt or not all(siblings):
        raise ValueError("a prompt and each of its completions need at least one token")


def _targets(completions: Sequence[Sequence[Tokens]]) -> Tensor:
    return torch.tensor([token for siblings in completions for completion in siblings for token in completion])


def _lengths(completions: Sequence[Sequence[Tokens]]) -> tuple[int, ...]:
    return tuple(len(completion) for siblings in completions for completion in siblings)
