"""Truncated importance sampling from the sampler's distribution to the trainer's."""

from __future__ import annotations

import math

import pytest
import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective

TRAINER = torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -3.0, 0.0]])
SAMPLER = torch.tensor([[-1.5, -2.0, -0.4], [-3.0, -2.0, -9.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def weights(level: str, cap: float) -> torch.Tensor:
    correction = ImportanceCorrection(level, cap)  # type: ignore[arg-type]
    return correction.cut(correction(TRAINER, SAMPLER, MASK))


def test_token_weights_are_the_ratio_of_each_token_up_to_the_cap() -> None:
    found = weights("token", cap=3.0)
    assert found[0].tolist() == pytest.approx([math.exp(0.5), 1.0, math.exp(-0.1)])
    assert found[1, :2].tolist() == pytest.approx([3.0, math.exp(-1.0)])  # exp(2) is above the cap


def test_sequence_weights_are_the_geometric_mean_of_the_ratios() -> None:
    found = weights("sequence", cap=1.5)
    assert found[0].tolist() == pytest.approx([math.exp(0.4 / 3)] * 3)
    assert found[1, :2].tolist() == pytest.approx([1.5, 1.5])  # exp((2 - 1) / 2) is above the cap


def test_sequence_weights_do_not_shrink_with_length_where_every_token_differs_alike() -> None:
    correction = ImportanceCorrection("sequence")
    short, long = (correction(torch.zeros(1, n), torch.full((1, n), 0.01), torch.ones(1, n).bool()) for n in (10, 1000))
    assert float(short[0, 0]) == pytest.approx(float(long[0, 0]))


def test_without_correction_every_weight_is_exactly_one() -> None:
    assert weights("none", cap=1.0).tolist() == [[1.0] * 3] * 2


def test_weights_make_the_samplers_mean_the_trainers() -> None:
    """An expectation under pi_old from draws of q, over every token there is, uncut."""
    generator = torch.Generator().manual_seed(0)
    pi, q, value = (torch.randn(50, generator=generator).double() for _ in range(3))
    pi, q = pi.log_softmax(-1), q.log_softmax(-1)
    mask = torch.ones(50, 1).bool()
    weight = ImportanceCorrection("token", cap=1e9)(pi.unsqueeze(-1), q.unsqueeze(-1), mask).squeeze(-1)
    assert float((q.exp() * weight * value).sum()) == pytest.approx(float((pi.exp() * value).sum()))


def test_the_objective_multiplies_each_tokens_whole_term_and_no_gradient_flows_through_the_weight() -> None:
    now = TRAINER.clone().requires_grad_()
    reference = TRAINER - 0.3
    advantages, beta, shares = torch.tensor([1.0, -0.5]), torch.tensor([0.1, 0.2]), torch.tensor([0.25, 0.5])
    importance = weights("token", cap=3.0)
    Objective()(now, TRAINER, reference, MASK, advantages, beta, shares, importance).loss.backward()
    weighted = now.grad.clone()
    now.grad = None
    Objective()(now, TRAINER, reference, MASK, advantages, beta, shares).loss.backward()
    assert torch.allclose(weighted, now.grad * importance * MASK)
    assert not importance.requires_grad


def test_the_alarm_names_the_difference_and_the_cure() -> None:
    correction = ImportanceCorrection(alarm=0.01)
    assert correction.warning(0.01, 5.0) == ""
    assert "0.02 nats on average, 0.5 at most" in correction.warning(0.02, 0.5)
    assert "model.rollouts.correction.level" in correction.warning(0.02, 0.5)


@pytest.mark.parametrize("wrong", [{"cap": 0.9}, {"alarm": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=f"model.rollouts.correction.{next(iter(wrong))}"):
        ImportanceCorrection(**wrong)
