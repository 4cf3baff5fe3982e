"""Packed rows: how prompts and completions lie in one tensor for a training forward, and the attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from omnithink_pl.errors import BadInput

Tokens = Sequence[int]
Padding = Literal["left", "right"]

# Scores of a tile with a mask, which takes as many bytes.
AREA = 2**22
# Rows of unequal length share a tile while at most this share of it is wasted ...
WASTE = 0.3
# ... or it is so small that one call more would cost more than the waste.
SMALL = 2**16
PREFIX = "packed_"  # of the attention implementation's name, once packed rows are enabled
# Arguments of an attention function that change its scores: Gemma 2's cap, GPT-OSS's sinks, T5's biases, dropout.
OWN_TERMS = ("softcap", "s_aux", "position_bias", "dropout")


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


def enable_packed_attention(model: PreTrainedModel) -> None:
    """Give a model attention that takes ``packed`` in a forward; without it the model attends as before.

    It stays, because gradient checkpointing runs layers again in the backward pass.

    Raises:
        BadInput: If the model's attention is not one that transformers dispatches by name.
    """
    own = model.config._attn_implementation
    if own.startswith(PREFIX):
        return
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if own not in functions or own not in masks:
        raise cannot_share(type(model).__name__, f"its attention is {own!r}, not sdpa")

    def attention(module: nn.Module, *args: Any, packed: PackedAttention | None = None, **kwargs: Any) -> Any:
        if packed is not None:
            return _attention_layer(module, *args, packed=packed, **kwargs)
        return functions[own](module, *args, **kwargs)

    AttentionInterface.register(PREFIX + own, attention)
    AttentionMaskInterface.register(PREFIX + own, masks[own])
    model.config._attn_implementation = PREFIX + own


def _attention_layer(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    packed: PackedAttention,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend in the signature of transformers' attention interface, whose tensors are [1, heads, tokens, size].

    The spans say which tokens attend to which. So the mask is not read, and has to be the one that the model was given:
    some models (Doge, DeepSeek V3.2) add terms of their own to it, which would be lost.
    """
    terms = [name for name in OWN_TERMS if isinstance(kwargs.get(name), Tensor) or kwargs.get(name)]
    reason = f"it has {terms[0]}" if terms else ""
    own_mask = attention_mask is None or (attention_mask.dtype, attention_mask.numel()) == (torch.bool, packed.tokens)
    if not own_mask:
        reason = "it adds terms of its own to the mask"
    elif kwargs.get("is_causal", getattr(module, "is_causal", True)) is False:
        reason = "its tokens attend to later ones"
    elif (window := kwargs.get("sliding_window")) and packed.longest > int(window):  # type: ignore[call-overload]
        reason = f"sequences of {packed.longest} tokens exceed its sliding window of {window}"
    if reason:
        raise cannot_share(type(module).__name__, reason)
    query, key, value = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))
    return packed.attend(query, key, value, scaling).unsqueeze(0), None


def cannot_share(name: str, reason: str) -> BadInput:
    """Return the error of a model or layer whose prompts cannot be shared, with the cure."""
    return BadInput(f"{name} cannot share prompts: {reason}; set model.memory.share_prompt to false")


class Tile(NamedTuple):
    """Blocks of similar size, side by side."""

    queries: Tensor  # ``[n, q]`` index of each query in the row; short blocks repeat their last one
    keys: Tensor  # ``[n, k]`` index of each key, likewise
    mask: Tensor | None  # ``[n, 1, q, k]`` true where a query attends to a key; ``None`` where that is causal


@dataclass
class PackedAttention:
    """The attention of one packed row, in few rectangles of scores that need little memory."""

    tiles: list[Tile]  # the rectangles
    longest: int  # tokens of the longest prompt with a completion
    place: Tensor  # ``[tokens]`` where each token's result lies among those of all tiles
    calls: int = 0  # attention layers that have used it: 0 if the model has attention of its own

    @property
    def tokens(self) -> int:
        """Number of tokens of the row."""
        return len(self.place)

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device) -> PackedAttention:
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
        return cls(tiles, max(span.prefix_length + span.length for span in spans), place.to(device))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Compute softmax attention from and to ``[tokens, heads, size]``; keys and values may have fewer heads."""
        self.calls += 1
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
