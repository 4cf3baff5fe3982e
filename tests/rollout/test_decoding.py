"""Decoding with transformers: tokens have the right probabilities, and its attention is softmax attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from omnithink_pl.model.logprobs import nucleus
from omnithink_pl.rollout.decoding import ATTENTION, decoding_attention, grouped_attention, sample_tokens
from tests.tiny import tiny_qwen

LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, -3.0, 1.9])
GRID = 20_000


def smallest_nucleus(probabilities: list[float], top_p: float) -> set[int]:
    """By the definition: add the most likely token until the sum is reached."""
    inside: set[int] = set()
    for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token]):
        if sum(probabilities[other] for other in inside) >= top_p:
            break
        inside.add(token)
    return inside


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 0.2), (1.0, 0.6), (1.0, 0.9)]
)
def test_frequencies_are_the_softmax_at_the_temperature_renormalised_over_the_nucleus(
    temperature: float, top_p: float
) -> None:
    noise = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID  # runs evenly through [0, 1)
    sampled, _ = sample_tokens(LOGITS.expand(GRID, -1), noise, temperature, top_p)
    probabilities = (LOGITS.double() / temperature).softmax(-1).tolist()
    inside = smallest_nucleus(probabilities, top_p)
    total = sum(probabilities[token] for token in inside)
    expected = [p / total if token in inside else 0.0 for token, p in enumerate(probabilities)]
    frequencies = torch.bincount(sampled, minlength=len(LOGITS)) / GRID
    assert frequencies.tolist() == pytest.approx(expected, abs=2 / GRID)


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.7, 0.99])
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float) -> None:
    rows = torch.randn(20, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    for row, found in zip(rows.tolist(), nucleus(rows, top_p), strict=True):
        assert set(found.nonzero().flatten().tolist()) == smallest_nucleus(row, top_p)


def test_a_token_of_probability_zero_is_never_sampled() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(3, -1)
    noise = torch.tensor([0.0, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    assert sample_tokens(logits, noise, 1.0, 1.0)[0].tolist() == [1, 3, 3]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.0, 0.3), (0.7, 1.0), (0.7, 0.5), (1.5, 0.9)])
def test_logprobs_are_those_of_the_distribution_sampled_from_and_of_temperature_one_when_greedy(
    temperature: float, top_p: float
) -> None:
    probabilities = (LOGITS.double() / (temperature or 1.0)).softmax(-1).tolist()
    inside = smallest_nucleus(probabilities, top_p if temperature else 1.0)
    total = sum(probabilities[token] for token in inside)
    for place in (0.1, 0.5, 0.97):
        noise = torch.tensor([place], dtype=torch.float64)
        token, logprob = sample_tokens(LOGITS.unsqueeze(0), noise, temperature, top_p)
        assert logprob.item() == pytest.approx(math.log(probabilities[int(token)] / total), abs=1e-6)
        assert temperature or token == 0, "the most likely"


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
        assert model.config._attn_implementation == ATTENTION
        found = mask()
    model.config._attn_implementation = "eager"
    assert torch.equal(found, mask())


@pytest.mark.parametrize(("own", "inside"), [("sdpa", ATTENTION), ("eager", "eager")])
def test_only_sdpa_is_replaced_and_comes_back_after_an_error(own: str, inside: str) -> None:
    model = tiny_qwen(attn_implementation=own)

    def fail_inside() -> None:
        with decoding_attention(model):
            assert model.config._attn_implementation == inside
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert model.config._attn_implementation == own
