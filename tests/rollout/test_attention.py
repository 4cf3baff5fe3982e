"""The CPU's decoding attention is softmax attention, and is put back after use."""

from __future__ import annotations

import pytest
import torch

from omnithink_pl.rollout.attention import decoding_attention, grouped_attention
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
