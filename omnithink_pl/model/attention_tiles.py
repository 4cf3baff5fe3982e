"""Attention of a packed row in few rectangles of scores, by PyTorch's own attention: for any device and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from omnithink_pl.model.packing import Span

# Scores of a tile with a mask, which takes as many bytes.
AREA = 2**22
# Rows of unequal length share a tile while at most this share of it is wasted ...
WASTE = 0.3
# ... or it is so small that one call more would cost more than the waste.
SMALL = 2**16


class Tile(NamedTuple):
    """Blocks of similar size, side by side."""

    queries: Tensor  # ``[n, q]`` index of each query in the row; short blocks repeat their last one
    keys: Tensor  # ``[n, k]`` index of each key, likewise
    mask: Tensor | None  # ``[n, 1, q, k]`` true where a query attends to a key; ``None`` where that is causal


@dataclass(frozen=True)
class TiledAttention:
    """The attention of one packed row, in few rectangles of scores that need little memory."""

    tiles: list[Tile]  # the rectangles
    place: Tensor  # ``[tokens]`` where each token's result lies among those of all tiles

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device) -> TiledAttention:
        """Build the tiles of a row's spans."""
        tokens = sum(span.length for span in spans)
        place, tiles, used = torch.empty(tokens, dtype=torch.long), [], 0
        for blocks in _grouped([_Block.of(span) for span in spans]):
            tile = _tile(blocks)
            results = torch.arange(tile.queries.numel()).view_as(tile.queries) + used
            number = torch.arange(tile.queries.shape[1])
            lead, queries = torch.tensor([(block.lead, block.queries) for block in blocks]).unsqueeze(-1).unbind(1)
            real = (number >= lead) & (number < queries)  # neither lead nor padding
            place[tile.queries[real]] = results[real]
            used += tile.queries.numel()
            mask = None if tile.mask is None else tile.mask.to(device)
            tiles.append(Tile(tile.queries.to(device), tile.keys.to(device), mask))
        return cls(tiles, place.to(device))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Compute softmax attention from and to ``[tokens, heads, size]``; keys and values may have fewer heads."""
        # On a GPU the kernels that take a mask do not support grouped-query attention.
        grouped, copies = query.device.type == "cpu", query.shape[1] // key.shape[1]
        if not grouped and copies > 1:
            key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
        results = [
            scaled_dot_product_attention(
                _take(query, tile.queries),
                _take(key, tile.keys),
                _take(value, tile.keys),
                attn_mask=tile.mask,
                is_causal=tile.mask is None,
                scale=scale,
                enable_gqa=grouped and copies > 1,
            )
            for tile in self.tiles
        ]
        return torch.cat([result.transpose(1, 2).flatten(0, 1) for result in results]).index_select(0, self.place)


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """From ``[tokens, heads, size]`` at ``[n, length]`` to ``[n, heads, length, size]``."""
    return tokens.index_select(0, index.flatten()).view(*index.shape, *tokens.shape[1:]).transpose(1, 2)


class _Block(NamedTuple):
    """A span as a rectangle of scores."""

    span: Span
    # Tokens of the prefix that are computed as queries too, and discarded. With all of them the rectangle is a square
    # under a causal mask, which kernels know without being given one.
    lead: int

    @classmethod
    def of(cls, span: Span) -> _Block:
        """Choose the cheaper way: a mask while it is small, or while a square would be mostly prefix."""
        masked = span.length * (span.prefix_length + span.length) <= AREA or span.length < span.prefix_length / 2
        return cls(span, 0 if masked else span.prefix_length)

    @property
    def queries(self) -> int:
        return self.lead + self.span.length

    @property
    def keys(self) -> int:
        return self.span.prefix_length + self.span.length

    @property
    def causal(self) -> bool:
        return self.queries == self.keys


def _grouped(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Group neighbours in order of size, causal or not, as long as little is wasted."""
    groups: list[list[_Block]] = []
    for block in sorted(blocks, key=lambda block: (block.causal, block.queries, block.keys), reverse=True):
        if groups and groups[-1][0].causal == block.causal:
            joined = [*groups[-1], block]
            size = len(joined) * max(b.queries for b in joined) * max(b.keys for b in joined)
            used = sum(b.queries * b.keys for b in joined)
            if size <= SMALL or (size <= AREA and used >= (1 - WASTE) * size):
                groups[-1] = joined
                continue
        groups.append([block])
    return groups


def _tile(blocks: Sequence[_Block]) -> Tile:
    columns = [(*block.span, block.lead) for block in blocks]
    start, length, prefix, before, lead = torch.tensor(columns).unsqueeze(-1).unbind(1)
    first = before - lead  # of a block's queries, among its keys
    query, key = (torch.arange(max(getattr(b, side) for b in blocks)) for side in ("queries", "keys"))

    def index(place: Tensor) -> Tensor:
        """Return the index in the row of the token at a place among a block's keys."""
        place = place.minimum(before + length - 1)
        return torch.where(place < before, prefix + place, start + place - before)

    mask = None if blocks[0].causal else (key <= (first + query).unsqueeze(-1)).unsqueeze(1)
    return Tile(index(first + query), index(key.expand(len(blocks), -1)), mask)
