"""The objective against plain loops over equations 3 to 5 in double precision, and its importance weights."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective

Group = dict  # one group as plain lists: see `make_groups`


def make_groups(seed: int, spread: float) -> list[Group]:
    """Groups of uneven size and length, with everything a loop needs."""
    rng = random.Random(seed)
    groups = []
    for size in (3, 4, 2):
        lengths = [rng.randint(1, 7) for _ in range(size)]
        new = [[rng.uniform(-3, -0.1) for _ in range(n)] for n in lengths]
        groups.append(
            {
                "beta": rng.choice([0.0, 0.04, 0.3]),
                "advantages": [rng.gauss(0, 1) for _ in lengths],
                "new": new,
                "old": [[p + rng.gauss(0, spread) for p in row] for row in new],
                "reference": [[p + rng.gauss(0, spread) for p in row] for row in new],
            }
        )
    return groups


def plain_loss_and_gradient(groups: list[Group], low: float, high: float) -> tuple[float, list[float]]:
    """-J and its derivative by each log-probability, by hand: no tensors, no autograd."""
    total, gradient = 0.0, []
    for group in groups:
        for i, advantage in enumerate(group["advantages"]):
            length = len(group["new"][i])
            share = 1.0 / (len(groups) * len(group["advantages"]) * length)
            for t in range(length):
                new, old, reference = (group[key][i][t] for key in ("new", "old", "reference"))
                ratio = math.exp(new - old)
                clipped = min(max(ratio, 1 - low), 1 + high)
                surrogate = min(ratio * advantage, clipped * advantage)
                slope = ratio * advantage if ratio * advantage <= clipped * advantage else 0.0
                odds = math.exp(reference - new)
                kl = odds - math.log(odds) - 1.0
                total -= share * (surrogate - group["beta"] * kl)
                gradient.append(-share * (slope - group["beta"] * (1.0 - odds)))
    return total, gradient


def padded(groups: list[Group], key: str) -> Tensor:
    rows = [torch.tensor(row, dtype=torch.float64) for group in groups for row in group[key]]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def tensors(groups: list[Group], objective: Objective, max_tokens: int = 9) -> dict[str, Tensor]:
    lengths = [[len(row) for row in group["new"]] for group in groups]
    flat = [n for row in lengths for n in row]
    spread = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    return {
        "logprobs": padded(groups, "new").requires_grad_(),
        "old_logprobs": padded(groups, "old"),
        "reference_logprobs": padded(groups, "reference"),
        "mask": torch.arange(max(flat)) < torch.tensor(flat)[:, None],
        "advantages": spread([a for group in groups for a in group["advantages"]]),
        "beta": spread([group["beta"] for group in groups for _ in group["new"]]),
        "weights": spread([w for row in objective.weights(lengths, max_tokens) for w in row]),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clip", [(0.2, 0.2), (0.1, 0.28)])
def test_law_3_the_objective_equals_a_plain_loop_gradients_included(seed: int, clip: tuple[float, float]) -> None:
    groups = make_groups(seed, spread=0.3)
    objective = Objective(clip_low=clip[0], clip_high=clip[1])
    inputs = tensors(groups, objective)
    terms = objective(**inputs)
    terms.loss.backward()
    loss, gradient = plain_loss_and_gradient(groups, *clip)
    assert float(terms.loss.detach()) == pytest.approx(loss, abs=1e-6)
    assert inputs["logprobs"].grad is not None
    assert inputs["logprobs"].grad[inputs["mask"]].tolist() == pytest.approx(gradient, abs=1e-6)
    assert float(inputs["logprobs"].grad[~inputs["mask"]].abs().sum()) == 0.0
    assert terms.clipped.any(), "the case must reach the clip"


def test_law_5_on_fresh_rollouts_every_ratio_is_one_and_the_gradient_is_the_policy_gradient() -> None:
    groups = make_groups(0, spread=0.0)
    objective = Objective()
    inputs = tensors(groups, objective) | {"beta": torch.zeros(9, dtype=torch.float64)}
    terms = objective(**inputs)
    terms.loss.backward()
    expected = -(inputs["advantages"] * inputs["weights"])[:, None].expand_as(inputs["mask"])[inputs["mask"]]
    assert torch.equal(inputs["logprobs"].grad[inputs["mask"]], expected)
    assert not terms.clipped.any()


@pytest.mark.parametrize("aggregation", ["completion", "token", "constant"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_loss_of_a_batch_is_the_sum_over_any_micro_batches(aggregation: str, ratio: str) -> None:
    groups = make_groups(3, spread=0.2)
    objective = Objective(aggregation=aggregation, ratio=ratio)
    inputs = tensors(groups, objective)
    whole = objective(**inputs).loss
    for size in (1, 2, 5):
        parts = [objective(**{k: v[i : i + size] for k, v in inputs.items()}).loss for i in range(0, 9, size)]
        assert float(sum(parts).detach()) == pytest.approx(float(whole.detach()), abs=1e-12)


def test_aggregations_weigh_tokens_as_their_papers_do() -> None:
    lengths = [[2, 4], [3]]
    expected = {
        "completion": [1 / (2 * 2 * 2), 1 / (2 * 2 * 4), 1 / (2 * 1 * 3)],
        "token": [1 / 9] * 3,
        "constant": [1 / 24] * 3,
    }
    for aggregation, right in expected.items():
        first, second = Objective(aggregation=aggregation).weights(lengths, 8)
        assert [*first, *second] == pytest.approx(right)
    whole, lost = Objective().weights([[5, 5, 5, 5], [5]], 8)
    assert sum(whole) == pytest.approx(sum(lost)), "a group that lost completions still counts once"


def test_the_sequence_ratio_is_the_geometric_mean_of_the_token_ratios() -> None:
    new, old = torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[-1.3, -1.9, 0.0]])
    mask = torch.tensor([[True, True, False]])
    one = torch.ones(1)
    terms = Objective(ratio="sequence", clip_low=0.9, clip_high=9.0)(new, old, new, mask, one, 0 * one, one)
    assert float(terms.loss) == pytest.approx(-2 * math.exp((0.3 - 0.1) / 2), rel=1e-6)


def test_the_kl_estimate_is_unbiased_and_never_negative() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    one, old = torch.ones(3), p.log()[:, None]
    kl = Objective()(old, old, q.log()[:, None], torch.ones(3, 1, dtype=torch.bool), one, one, one).kl
    assert bool((kl >= 0).all())
    exact = float((p * (p / q).log()).sum())
    assert float((p[:, None] * kl).sum()) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("clip", [(0.0, 0.2), (1.0, 0.2), (0.2, 0.0)])
def test_a_clip_range_without_inside_is_refused(clip: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="clip_low must lie in"):
        Objective(clip_low=clip[0], clip_high=clip[1])


TRAINER = torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -3.0, 0.0]])
SAMPLER = torch.tensor([[-1.5, -2.0, -0.4], [-3.0, -2.0, -9.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def weights(level: str, cap: float) -> torch.Tensor:
    correction = ImportanceCorrection(level, cap)  # type: ignore[arg-type]
    return correction(TRAINER, SAMPLER, MASK).clamp(max=correction.cap)


def test_token_weights_are_the_ratio_of_each_token_up_to_the_cap() -> None:
    found = weights("token", cap=3.0)
    assert found[0].tolist() == pytest.approx([math.exp(0.5), 1.0, math.exp(-0.1)])
    assert found[1, :2].tolist() == pytest.approx([3.0, math.exp(-1.0)])  # exp(2) is above the cap


def test_sequence_weights_are_the_geometric_mean_of_the_ratios() -> None:
    found = weights("sequence", cap=1.5)
    assert found[0].tolist() == pytest.approx([math.exp(0.4 / 3)] * 3)
    assert found[1, :2].tolist() == pytest.approx([1.5, 1.5])  # exp((2 - 1) / 2) is above the cap
    correction = ImportanceCorrection("sequence")
    short, long = (correction(torch.zeros(1, n), torch.full((1, n), 0.01), torch.ones(1, n).bool()) for n in (10, 1000))
    assert float(short[0, 0]) == pytest.approx(float(long[0, 0])), "it does not shrink with the length"


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
