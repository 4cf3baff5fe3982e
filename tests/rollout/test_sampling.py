"""Tokens are drawn with the right probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from omnithink_pl.rollout.base import draw, nucleus

LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, -3.0, 1.9])
GRID = 20_000


def frequencies(temperature: float, top_p: float) -> torch.Tensor:
    """How often each token is drawn when the noise runs evenly through [0, 1)."""
    noise = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    drawn, _ = draw(LOGITS.expand(GRID, -1), noise, temperature, top_p)
    return torch.bincount(drawn, minlength=len(LOGITS)) / GRID


def smallest_nucleus(probabilities: list[float], top_p: float) -> set[int]:
    """By the definition: add the most likely token until the sum is reached."""
    inside: set[int] = set()
    for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token]):
        if sum(probabilities[other] for other in inside) >= top_p:
            break
        inside.add(token)
    return inside


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_at_the_temperature(temperature: float) -> None:
    expected = (LOGITS.double() / temperature).softmax(-1)
    assert frequencies(temperature, 1.0).tolist() == pytest.approx(expected.tolist(), abs=2 / GRID)


@pytest.mark.parametrize("top_p", [0.2, 0.6, 0.9])
def test_top_p_draws_from_the_renormalised_nucleus(top_p: float) -> None:
    probabilities = LOGITS.double().softmax(-1).tolist()
    inside = smallest_nucleus(probabilities, top_p)
    total = sum(probabilities[token] for token in inside)
    expected = [p / total if token in inside else 0.0 for token, p in enumerate(probabilities)]
    assert frequencies(1.0, top_p).tolist() == pytest.approx(expected, abs=2 / GRID)


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.7, 0.99])
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float) -> None:
    rows = torch.randn(20, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    for row, found in zip(rows.tolist(), nucleus(rows, top_p), strict=True):
        assert set(found.nonzero().flatten().tolist()) == smallest_nucleus(row, top_p)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(3, -1)
    noise = torch.tensor([0.0, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    assert draw(logits, noise, 1.0, 1.0)[0].tolist() == [1, 3, 3]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.0, 0.3), (0.7, 1.0), (0.7, 0.5), (1.5, 0.9)])
def test_logprobs_are_those_of_the_distribution_drawn_from_and_of_temperature_one_when_greedy(
    temperature: float, top_p: float
) -> None:
    probabilities = (LOGITS.double() / (temperature or 1.0)).softmax(-1).tolist()
    inside = smallest_nucleus(probabilities, top_p if temperature else 1.0)
    total = sum(probabilities[token] for token in inside)
    for place in (0.1, 0.5, 0.97):
        noise = torch.tensor([place], dtype=torch.float64)
        token, logprob = draw(LOGITS.unsqueeze(0), noise, temperature, top_p)
        assert logprob.item() == pytest.approx(math.log(probabilities[int(token)] / total), abs=1e-6)


def test_greedy_takes_the_most_likely_token() -> None:
    assert draw(LOGITS.unsqueeze(0), torch.tensor([0.99], dtype=torch.float64), 0.0, 1.0)[0].item() == 0
