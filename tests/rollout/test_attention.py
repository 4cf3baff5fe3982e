"""The CPU's decoding attention is softmax attention, and is put back after use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from omnithink_pl.rollout.decoding import NAME, decoding_attention, grouped_attention
from tests.tiny import tiny_qwen


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_plain_softmax_attention(masked: bool) -> None:
    rows, heads, shared, length, size = 3, 6, 2, 7, 4
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, heads, 1, size, generator=generator)
    key, value = (torch.randn(rows, shared, length, size, generator=generator) for _ in range(2))
    mask = torch.zeros(rows, 1, 1, length)
    if masked:
        mask[0, ..., :3], mask[2, ..., :1] = -1e30, -1e30
    found, _ = grouped_attention(torch.nn.Identity(), query, key, value, mask if masked else None)
    for row in range(rows):
        for head in range(heads):
            source = head // (heads // shared)
            scores = key[row, source] @ query[row, head, 0] / size**0.5 + mask[row, 0, 0]
            expected = scores.softmax(-1) @ value[row, source]
            assert torch.allclose(found[row, 0, head], expected, atol=1e-6)


@pytest.mark.parametrize("create", [create_causal_mask, create_sliding_window_causal_mask])
@pytest.mark.parametrize("padded", [False, True])
def test_its_mask_is_that_of_transformers(create: Callable[..., torch.Tensor], padded: bool) -> None:
    """Where windows cut the past off as well."""
    model = tiny_qwen(use_sliding_window=True, sliding_window=4, max_window_layers=1)
    cache = DynamicCache(config=model.config)
    seen = torch.ones(3, 7, dtype=torch.long)
    if padded:
        seen[0, :3] = seen[2, :1] = 0
    with torch.no_grad():
        model(torch.ones(3, 6, dtype=torch.long), attention_mask=seen[:, :6], past_key_values=cache)

    def mask() -> torch.Tensor:
        return create(
            config=model.config,
            inputs_embeds=torch.zeros(3, 1, model.config.hidden_size),
            attention_mask=seen,
            past_key_values=cache,
            position_ids=seen.sum(-1, keepdim=True) - 1,
        )

    with decoding_attention(model):
        assert model.config._attn_implementation == NAME
        found = mask()
    model.config._attn_implementation = "eager"
    assert torch.equal(found, mask())


def test_the_models_own_attention_comes_back_after_an_error() -> None:
    model = tiny_qwen()

    def fail_inside() -> None:
        with decoding_attention(model):
            assert model.config._attn_implementation == "grouped_matmul"
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert model.config._attn_implementation == "sdpa"


def test_a_model_with_another_attention_keeps_it() -> None:
    model = tiny_qwen(attn_implementation="eager")
    with decoding_attention(model):
        assert model.config._attn_implementation == "eager"
