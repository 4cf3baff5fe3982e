"""Packed rows: how prompts and completions lie in one tensor for a training forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Tokens = Sequence[int]
Padding = Literal["left", "right"]


class Span(NamedTuple):
    """Consecutive tokens of a packed row that attend to each other causally."""

    start: int  # index of the first
    length: int  # how many
    prefix: int = 0  # index of the first token of the prompt that all of them attend to
    prefix_length: int = 0  # tokens of that prompt; 0 for a prompt's own span


@dataclass(frozen=True)
class Packing:
    """A batch for a causal language model, and where each completion token is predicted."""

    tokens: Tensor  # token ids of shape [rows, width]
    positions: Tensor  # position of each token in its own sequence, of the same shape
    mask: Tensor  # 1 for a token, 0 for padding, of the same shape
    source: Tensor  # index into the flattened [rows * width] of the token that predicts each completion token
    targets: Tensor  # the completion tokens, in the same order
    lengths: tuple[int, ...]  # tokens of each completion, in group order
    # which tokens of a packed row attend to which, ascending; empty where every row is one sequence
    spans: tuple[Span, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with a completion, of a packed row."""
        return max(span.prefix_length + span.length for span in self.spans)


def pack_rows(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]]) -> Packing:
    """Pack all into one row without padding: each prompt once, followed by its completions.

    Every completion starts at the position behind its prompt; by its span it attends to that prompt and itself only.
    """
    tokens: list[int] = []
    positions: list[int] = []
    source: list[int] = []
    spans: list[Span] = []
    for prompt, siblings in zip(prompts, completions, strict=True):
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
    return _packing(prompts, completions, row, torch.tensor([positions]), torch.ones_like(row), source, tuple(spans))


def pad_rows(prompts: Sequence[Tokens], completions: Sequence[Sequence[Tokens]], padding: Padding) -> Packing:
    """Give each completion a row, with its own copy of the prompt before it, padded to the longest.

    Padding repeats a token of a prompt: a padding token may be embedded as zeros, by whose norm Gemma 3n divides.
    """
    pairs = [(prompt, c) for prompt, siblings in zip(prompts, completions, strict=True) for c in siblings]
    rows = [[*prompt, *completion] for prompt, completion in pairs]
    width = max(map(len, rows))
    pads = [width - len(row) for row in rows]
    left = [pad if padding == "left" else 0 for pad in pads]

    def padded(values: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
        lines = zip(left, values, pads, strict=True)
        return torch.tensor([[fill] * before + [*line] + [fill] * (pad - before) for before, line, pad in lines])

    source = [
        number * width + before + place - 1
        for number, ((prompt, completion), before) in enumerate(zip(pairs, left, strict=True))
        for place in range(len(prompt), len(prompt) + len(completion))
    ]
    positions, mask = padded([range(len(row)) for row in rows]), padded([[1] * len(row) for row in rows])
    return _packing(prompts, completions, padded(rows, fill=rows[0][0]), positions, mask, source)


def _packing(
    prompts: Sequence[Tokens],
    completions: Sequence[Sequence[Tokens]],
    tokens: Tensor,
    positions: Tensor,
    mask: Tensor,
    source: list[int],
    spans: tuple[Span, ...] = (),
) -> Packing:
    every = [completion for siblings in completions for completion in siblings]
    if not all(prompts) or not all(every):
        raise ValueError("a prompt and each of its completions need at least one token")
    targets = torch.tensor([token for completion in every for token in completion])
    return Packing(tokens, positions, mask, torch.tensor(source), targets, tuple(map(len, every)), spans)
