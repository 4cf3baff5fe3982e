"""Attention over packed rows whose completions share a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from omnithink_pl.errors import BadInput
from omnithink_pl.model.packing import Span

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


# Scores of a tile with a mask, which takes as many bytes.
AREA = 2**22
# Rows of unlike length share a tile while at most this share of it is wasted ...
WASTE = 0.3
# ... or it is so small that one call more would cost more than the waste.
SMALL = 2**16


class _Block(NamedTuple):
    """A span as a rectangle of scores.

    Args:
        span: The span.
        lead: Tokens of the prefix that are computed as queries too, and thrown away. With all of them the
            rectangle is a square under a causal mask, which no kernel needs to be given.
    """

    span: Span
    lead: int

    @classmethod
    def of(cls, span: Span) -> _Block:
        """The cheaper way: a mask while it is small, or while a square would be mostly prefix."""
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


class Tile(NamedTuple):
    """Blocks of like size, side by side.

    Args:
        queries: ``[n, q]`` index of each query in the row; short blocks repeat their last one.
        keys: ``[n, k]`` index of each key, likewise.
        mask: ``[n, 1, q, k]`` true where a query sees a key; ``None`` where that is causal.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


@dataclass
class Tiles:
    """The attention of one packed row.

    Args:
        tiles: The rectangles.
        place: ``[tokens]`` where each token's result lies among those of all tiles.
        calls: Attention layers that have used it: none, and the model has attention of its own.
    """

    tiles: list[Tile]
    place: Tensor
    calls: int = field(default=0)

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device) -> Tiles:
        """The tiles of a row's spans."""
        tokens = sum(span.length for span in spans)
        place, tiles, used = torch.empty(tokens, dtype=torch.long), [], 0
        for blocks in _together([_Block.of(span) for span in spans]):
            tile = _tile(blocks)
            results = torch.arange(tile.queries.numel()).view_as(tile.queries) + used
            number = torch.arange(tile.queries.shape[1])
            lead, queries = torch.tensor([(block.lead, block.queries) for block in blocks]).unsqueeze(-1).unbind(1)
            real = (number >= lead) & (number < queries)
            place[tile.queries[real]] = results[real]
            used += tile.queries.numel()
            mask = None if tile.mask is None else tile.mask.to(device)
            tiles.append(Tile(tile.queries.to(device), tile.keys.to(device), mask))
        return cls(tiles, place.to(device))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Softmax attention.

        Args:
            query: ``[tokens, heads, size]``.
            key: ``[tokens, key-value heads, size]``.
            value: ``[tokens, key-value heads, size of a value]``.
            scale: Of the scores; 1 / sqrt(size) if not given.

        Returns:
            ``[tokens, heads, size of a value]``.
        """
        self.calls += 1
        # On a GPU the kernels that take a mask do not know heads that are shared.
        shared, copies = query.device.type == "cpu", query.shape[1] // key.shape[1]
        if not shared and copies > 1:
            key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
        results = [
            scaled_dot_product_attention(
                _taken(query, tile.queries),
                _taken(key, tile.keys),
                _taken(value, tile.keys),
                attn_mask=tile.mask,
                is_causal=tile.mask is None,
                scale=scale,
                enable_gqa=shared and copies > 1,
            )
            for tile in self.tiles
        ]
        return torch.cat([result.transpose(1, 2).flatten(0, 1) for result in results]).index_select(0, self.place)


def _taken(tokens: Tensor, index: Tensor) -> Tensor:
    """``[tokens, heads, size]`` at ``[n, length]`` as ``[n, heads, length, size]``."""
    return tokens.index_select(0, index.flatten()).view(*index.shape, *tokens.shape[1:]).transpose(1, 2)


def _together(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Neighbours in order of size and of one kind, as long as little is wasted."""
    together: list[list[_Block]] = []
    for block in sorted(blocks, key=lambda block: (block.causal, block.queries, block.keys), reverse=True):
        if together and together[-1][0].causal == block.causal:
            joined = [*together[-1], block]
            size = len(joined) * max(b.queries for b in joined) * max(b.keys for b in joined)
            used = sum(b.queries * b.keys for b in joined)
            if size <= SMALL or (size <= AREA and used >= (1 - WASTE) * size):
                together[-1] = joined
                continue
        together.append([block])
    return together


def _tile(blocks: Sequence[_Block]) -> Tile:
    columns = [(*block.span, block.lead) for block in blocks]
    start, length, prefix, before, lead = torch.tensor(columns).unsqueeze(-1).unbind(1)
    first = before - lead  # of a block's queries, among its keys
    query, key = (torch.arange(max(getattr(b, side) for b in blocks)) for side in ("queries", "keys"))

    def index(place: Tensor) -> Tensor:
        """Of the token at a place among a block's keys."""
        place = place.minimum(before + length - 1)
        return torch.where(place < before, prefix + place, start + place - before)

    seen = None if blocks[0].causal else (key <= (first + query).unsqueeze(-1)).unsqueeze(1)
    return Tile(index(first + query), index(key.expand(len(blocks), -1)), seen)


PREFIX = "packed_"


def tiled_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    tiles: Tiles,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention of a packed row, in the signature of transformers' attention interface.

    Args:
        module: The attention layer, for its name.
        query: Of shape [1, heads, tokens, size].
        key: Of shape [1, key-value heads, tokens, size].
        value: Likewise.
        attention_mask: Not read: the tiles know who sees whom.
        scaling: Of the scores; 1 / sqrt(size) by default.
        tiles: The row's spans.
        **kwargs: What other implementations take.

    Returns:
        The attended values of shape [1, tokens, heads, size], and no weights.

    Raises:
        BadInput: If the layer is more than softmax attention over all that precedes.
    """
    for name in ("softcap", "s_aux", "position_bias", "dropout"):
        if kwargs.get(name):
            raise BadInput(
                f"{type(module).__name__} cannot share prompts: it has {name}; set model.memory.share_prompt to false"
            )
    rows = [part.squeeze(0).transpose(0, 1) for part in (query, key, value)]
    return tiles.attend(rows[0], rows[1], rows[2], scaling).unsqueeze(0), None


def understand_packed_rows(model: PreTrainedModel) -> None:
    """Give a model attention that takes ``tiles`` in a forward; without them it attends as before.

    It stays, because gradient checkpointing runs layers again in the backward pass. Calling it again changes nothing.

    Raises:
        BadInput: If the model's attention is not one that transformers dispatches by name.
    """
    own = model.config._attn_implementation
    if own.startswith(PREFIX):
        return
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if own not in functions or own not in masks:
        raise BadInput(
            f"{type(model).__name__} cannot share prompts: its attention is {own!r}; load it with sdpa, or set "
            f"model.memory.share_prompt to false"
        )

    def attention(module: nn.Module, *args: Any, tiles: Tiles | None = None, **kwargs: Any) -> Any:
        if tiles is not None:
            return tiled_attention(module, *args, tiles=tiles, **kwargs)
        return functions[own](module, *args, **kwargs)

    AttentionInterface.register(PREFIX + own, attention)
    AttentionMaskInterface.register(PREFIX + own, masks[own])
    model.config._attn_implementation = PREFIX + own
