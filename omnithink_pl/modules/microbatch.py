"""Dividing a batch of completions into micro-batches that fit a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omnithink_pl.errors import BadInput


class Part(NamedTuple):
    """Some completions of one group.

    Args:
        group: Index of the group in the batch.
        completions: Indices of the completions in the group, ascending.
    """

    group: int
    completions: tuple[int, ...]


MicroBatch = tuple[Part, ...]


@dataclass(frozen=True)
class _Piece:
    """A part with what it takes up: one packed stretch, or padded rows."""

    part: Part
    rows: int
    longest: int
    packed: bool


def split(
    groups: Sequence[tuple[int, Sequence[int]]], token_budget: int, share_prompt: bool = True
) -> list[MicroBatch]:
    """Divide the completions of a batch, keeping siblings together where they fit.

    With ``share_prompt`` a part is its prompt and its completions, all parts in one row without padding, as
    ``modules.layout.packed`` has it; without, every completion is a row with its own prompt, and rows of like length
    meet in a micro-batch, which saves padding. The result is a function of the lengths alone.

    Args:
        groups: Tokens of the prompt and of each completion, for every group.
        token_budget: Most tokens of a micro-batch, padding included. A completion that exceeds it with its prompt
            goes alone.
        share_prompt: Whether a prompt is computed once for the completions of a part.

    Returns:
        Micro-batches, each of which has at most one part of a group. Every completion occurs exactly
        once; a group without completions does not occur.

    Raises:
        BadInput: If ``token_budget`` is below 1.
    """
    if token_budget < 1:
        raise BadInput(f"model.micro_batch_tokens is {token_budget}; it is at least 1")
    pieces = [
        piece
        for index, (prompt, completions) in enumerate(groups)
        for piece in _pieces(index, prompt, completions, token_budget, share_prompt)
    ]
    batches: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: -piece.longest):
        # Longest first. A padded row joins rows of its own length; where nothing is padded, any gap will do.
        open_batches = batches if share_prompt else batches[-1:]
        joined = next((batch for batch in open_batches if _joins(piece, batch, token_budget)), None)
        if joined is None:
            batches.append([piece])
        else:
            joined.append(piece)
    return [tuple(piece.part for piece in batch) for batch in batches]


def _pieces(group: int, prompt: int, completions: Sequence[int], token_budget: int, share_prompt: bool) -> list[_Piece]:
    """A group whole, or cut where the budget is full, longest completions first."""

    def piece(taken: list[int]) -> _Piece:
        lengths = [completions[index] for index in taken]
        part = Part(group, tuple(sorted(taken)))
        if share_prompt:
            return _Piece(part, 1, prompt + sum(lengths), packed=True)
        return _Piece(part, len(taken), prompt + max(lengths), packed=False)

    pieces: list[_Piece] = []
    taken: list[int] = []
    for index in sorted(range(len(completions)), key=lambda index: -completions[index]):
        if taken and _tokens([piece([*taken, index])]) > token_budget:
            pieces.append(piece(taken))
            taken = []
        taken.append(index)
    return [*pieces, piece(taken)] if taken else pieces


def _joins(piece: _Piece, batch: Sequence[_Piece], token_budget: int) -> bool:
    strangers = all(other.part.group != piece.part.group for other in batch)
    return strangers and _tokens([*batch, piece]) <= token_budget


def _tokens(pieces: Sequence[_Piece]) -> int:
    """Size of the tensor that holds the pieces, padding included."""
    if all(piece.packed for piece in pieces):
        return sum(piece.longest for piece in pieces)
    return sum(piece.rows for piece in pieces) * max(piece.longest for piece in pieces)
