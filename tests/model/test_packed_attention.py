"""Attention of packed rows: the plain mask's result, by each kernel; rectangles stay small."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from omnithink_pl.model import attention_tiles, attention_varlen
from omnithink_pl.model.attention_tiles import Tile, TiledAttention
from omnithink_pl.model.attention_varlen import VarlenAttention, varlen_kernel
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.packed_attention import PackedAttention
from omnithink_pl.model.packing import Span, pack_rows
from tests.tiny import random_tokens, tiny_qwen

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


def assert_attends_as_one_mask_does(kind: type[TiledAttention | VarlenAttention], seed: int) -> None:
    chosen = spans(seed)
    tokens = chosen[-1].start + chosen[-1].length
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(tokens, heads, SIZE, generator=generator).requires_grad_() for heads in (HEADS, SHARED, SHARED)
    ]
    weights = torch.randn(tokens, HEADS, SIZE, generator=generator)
    expected, found = plain(chosen, *parts), kind.of(chosen, CPU).attend(*parts, scale=None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((weights * result).sum(), parts) for result in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("area", [1, 400, 2**22])
@pytest.mark.parametrize("seed", range(3))
def test_tiles_attend_as_one_mask_does(monkeypatch: pytest.MonkeyPatch, seed: int, area: int) -> None:
    monkeypatch.setattr(attention_tiles, "AREA", area)
    monkeypatch.setattr(attention_tiles, "SMALL", min(area, attention_tiles.SMALL))
    assert_attends_as_one_mask_does(TiledAttention, seed)


def by_definition(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    most_queries: int,
    most_keys: int,
    scale: float | None,
) -> torch.Tensor:
    """What FlashAttention documents of its kernel, which runs on GPUs only: one sequence after the other."""
    found = []
    for (a, b), (c, d) in zip(pairwise(query_ends.tolist()), pairwise(key_ends.tolist()), strict=True):
        assert b - a <= most_queries
        assert d - c <= most_keys
        seen = torch.ones(b - a, d - c, dtype=torch.bool).tril((d - c) - (b - a))  # aligned to the ends
        rows = (part.transpose(0, 1) for part in (query[a:b], key[c:d], value[c:d]))
        found.append(scaled_dot_product_attention(*rows, attn_mask=seen, scale=scale, enable_gqa=True).transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("seed", range(3))
def test_sequences_of_the_variable_length_kernel_attend_as_one_mask_does(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(attention_varlen, "varlen_kernel", by_definition)
    assert_attends_as_one_mask_does(VarlenAttention, seed)


def test_law_4_holds_with_the_variable_length_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_varlen, "varlen_kernel", by_definition)
    monkeypatch.setattr(VarlenAttention, "supports", staticmethod(lambda query: True))
    prompts, completions = random_tokens(5, 9), [random_tokens(4, 1, 7), random_tokens(3, 6)]
    results = []
    for share_prompt in (True, False):
        model = tiny_qwen()
        found = token_logprobs(model, prompts, completions, share_prompt=share_prompt).logprobs
        (found.sin() / 100).sum().backward()
        results.append([found.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_the_kernel_takes_what_it_is_given() -> None:
    """Forward and backward on tensors without contents: PyTorch knows the operation's arguments on any machine."""
    parts = [
        torch.empty(7, heads, 8, device="meta", dtype=torch.bfloat16, requires_grad=True) for heads in (HEADS, 2, 2)
    ]
    ends = torch.empty(3, device="meta", dtype=torch.int32)
    query, key, value = parts
    found = varlen_kernel(query, key, value, ends, ends, 4, 4, 0.5)
    assert found.shape == (7, HEADS, 8)
    gradients = torch.autograd.grad(found.sum(), parts)
    assert [gradient.shape for gradient in gradients] == [part.shape for part in parts]


def test_without_a_gpu_rows_are_tiled_in_the_dtype_of_autocast() -> None:
    parts = [torch.randn(7, heads, SIZE) for heads in (HEADS, SHARED, SHARED)]
    row = PackedAttention((Span(0, 3), Span(3, 4, 0, 3)))
    assert row.attend(*parts, None).dtype == torch.float32
    assert isinstance(row._kernel, TiledAttention)
    with torch.autocast("cpu", torch.bfloat16):
        assert row.attend(*parts, None).dtype == torch.bfloat16
    assert (row.calls, row.tokens, row.longest) == (2, 7, 7)


def scores(tile: Tile) -> int:
    return tile.queries.numel() * tile.keys.shape[1]


def test_every_query_lies_in_one_tile() -> None:
    for seed in range(20):
        made = TiledAttention.of(spans(seed), CPU)
        assert len(set(made.place.tolist())) == len(made.place)
        queries = torch.cat([tile.queries.flatten() for tile in made.tiles])
        assert queries[made.place].tolist() == list(range(len(made.place)))


@pytest.mark.parametrize(("prompt", "completion"), [(500, 30_000), (30_000, 500), (8_000, 8_000)])
def test_masks_of_long_sequences_stay_small(prompt: int, completion: int) -> None:
    made = TiledAttention.of(pack_rows([[1] * prompt], [[[1] * completion] * 3]).spans, CPU)
    masks = sum(tile.mask.numel() for tile in made.tiles if tile.mask is not None)
    assert masks <= 0.1 * (prompt + 3 * completion) ** 2 / 2
    needed = prompt**2 + 3 * completion * (prompt + completion)
    assert sum(map(scores, made.tiles)) < 2.5 * needed


def test_little_is_computed_that_is_not_needed() -> None:
    rng = random.Random(0)
    lengths = [[max(1, int(rng.lognormvariate(5, 1))) for _ in range(8)] for _ in range(8)]
    chosen = pack_rows([[1] * 100] * 8, [[[1] * n for n in row] for row in lengths]).spans
    used = sum(span.length * (span.prefix_length + span.length) for span in chosen)
    assert sum(map(scores, TiledAttention.of(chosen, CPU).tiles)) < 1.3 * used
