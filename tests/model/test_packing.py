"""Attention of packed rows: the plain mask's result, in rectangles that stay small."""

from __future__ import annotations

import random

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from omnithink_pl.model import packing
from omnithink_pl.model.packing import PackedAttention, Span, Tile, pack_rows

HEADS, SHARED, SIZE = 4, 2, 8
CPU = torch.device("cpu")


def spans(seed: int) -> tuple[Span, ...]:
    rng = random.Random(seed)
    groups = [(rng.randint(1, 30), [rng.randint(1, 40) for _ in range(rng.randint(1, 5))]) for _ in range(4)]
    return pack_rows([[1] * p for p, _ in groups], [[[1] * n for n in lengths] for _, lengths in groups]).spans


def plain(chosen: tuple[Span, ...], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One mask for the whole row, written out from what a span says."""
    tokens = len(query)
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for span in chosen:
        for place in range(span.start, span.start + span.length):
            seen[place, span.prefix : span.prefix + span.prefix_length] = True
            seen[place, span.start : place + 1] = True
    copies = HEADS // SHARED
    rows = (query, key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1))
    return scaled_dot_product_attention(*(row.transpose(0, 1) for row in rows), attn_mask=seen).transpose(0, 1)


@pytest.mark.parametrize("area", [1, 400, 2**22])
@pytest.mark.parametrize("seed", range(3))
def test_tiles_attend_as_one_mask_does(monkeypatch: pytest.MonkeyPatch, seed: int, area: int) -> None:
    monkeypatch.setattr(packing, "AREA", area)
    monkeypatch.setattr(packing, "SMALL", min(area, packing.SMALL))
    chosen = spans(seed)
    tokens = chosen[-1].start + chosen[-1].length
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(tokens, heads, SIZE, generator=generator).requires_grad_() for heads in (HEADS, SHARED, SHARED)
    ]
    weights = torch.randn(tokens, HEADS, SIZE, generator=generator)
    expected, found = plain(chosen, *parts), PackedAttention.of(chosen, CPU).attend(*parts, scale=None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((weights * result).sum(), parts) for result in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def scores(tile: Tile) -> int:
    return tile.queries.numel() * tile.keys.shape[1]


def test_every_query_lies_in_one_tile() -> None:
    for seed in range(20):
        made = PackedAttention.of(spans(seed), CPU)
        assert len(set(made.place.tolist())) == len(made.place)
        queries = torch.cat([tile.queries.flatten() for tile in made.tiles])
        assert queries[made.place].tolist() == list(range(len(made.place)))


@pytest.mark.parametrize(("prompt", "completion"), [(500, 30_000), (30_000, 500), (8_000, 8_000)])
def test_masks_of_long_sequences_stay_small(prompt: int, completion: int) -> None:
    made = PackedAttention.of(pack_rows([[1] * prompt], [[[1] * completion] * 3]).spans, CPU)
    masks = sum(tile.mask.numel() for tile in made.tiles if tile.mask is not None)
    assert masks <= 0.1 * (prompt + 3 * completion) ** 2 / 2
    needed = prompt**2 + 3 * completion * (prompt + completion)
    assert sum(map(scores, made.tiles)) < 2.5 * needed


def test_little_is_computed_that_is_not_needed() -> None:
    rng = random.Random(0)
    lengths = [[max(1, int(rng.lognormvariate(5, 1))) for _ in range(8)] for _ in range(8)]
    chosen = pack_rows([[1] * 100] * 8, [[[1] * n for n in row] for row in lengths]).spans
    used = sum(span.length * (span.prefix_length + span.length) for span in chosen)
    assert sum(map(scores, PackedAttention.of(chosen, CPU).tiles)) < 1.3 * used
