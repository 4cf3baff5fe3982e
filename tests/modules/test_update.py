"""Laws of an update on a batch of rollouts, with real completions of a real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective
from omnithink_pl.grpo.reference import FrozenCopy, ReferencePolicy
from omnithink_pl.grpo.update import TokenStats, UpdatePlan
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.types import Example, Group, Score
from tests.scores import FAILED, score
from tests.tiny import TinyPolicy, random_tokens, tiny_qwen

BETA = {"math": 0.3, "qa": 0.0}


@pytest.fixture(scope="module")
def policy() -> TinyPolicy:
    return TinyPolicy(tiny_qwen())


@pytest.fixture(scope="module")
def reference(policy: TinyPolicy) -> ReferencePolicy:
    """A reference that differs from the policy, so that the KL penalty has a gradient."""
    reference = FrozenCopy(policy.model, "base")
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter += 0.02 * torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    return reference


@pytest.fixture(scope="module")
def groups(policy: TinyPolicy) -> list[Group]:
    engine = TransformersEngine()
    engine.attach(policy)
    prompts = random_tokens(5, 9, 3)
    drawn = engine.generate(prompts, Sampling(group_size=4, max_tokens=12), seeds=[0, 1, 2])
    examples = [Example(task, str(i), "?", "!") for i, task in enumerate(["math", "qa", "math"])]
    return [Group(*parts) for parts in zip(examples, map(tuple, prompts), drawn, strict=True)]


def rollouts(groups: Sequence[Group], scores: Sequence[Sequence[Score]]) -> list[ScoredGroup]:
    return [
        ScoredGroup(group, tuple(row), tuple(GroupAdvantage()(row))) for group, row in zip(groups, scores, strict=True)
    ]


MIXED = [
    [score(1.0), score(0.0), score(0.0), score(1.0, layout=0.0)],
    [score(0.0), score(1.0), score(0.0), score(0.0)],
    [score(0.0), score(0.0), score(0.0), score(1.0)],
]


def plan(batch: list[ScoredGroup], budget: int = 10_000, share: bool = True, beta=BETA, **objective) -> UpdatePlan:
    return UpdatePlan(
        batch,
        Objective(**objective),
        beta,
        Sampling(max_tokens=12),
        budget,
        share,
        torch.device("cpu"),
        ImportanceCorrection(),
    )


def gradients(
    policy: TinyPolicy, reference: ReferencePolicy, chosen: UpdatePlan
) -> tuple[float, list[TokenStats], dict[str, torch.Tensor]]:
    policy.model.zero_grad()
    loss, stats = chosen.accumulate(policy.model, reference, lambda loss: loss.backward())
    found = {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}
    return loss, stats, found


def assert_equal_gradients(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize("aggregation", ["completion", "token", "constant"])
@pytest.mark.parametrize(("budget", "share"), [(60, True), (25, True), (1, True), (10_000, False), (40, False)])
def test_law_4_micro_batches_of_any_size_give_the_same_loss_and_gradient(
    policy, reference, groups, aggregation: str, budget: int, share: bool
) -> None:
    batch = rollouts(groups, MIXED)
    loss, _, whole = gradients(policy, reference, plan(batch, aggregation=aggregation))
    divided = plan(batch, budget, share, aggregation=aggregation)
    other_loss, _, parts = gradients(policy, reference, divided)
    assert len(divided.portions) > 1 or not share
    assert other_loss == pytest.approx(loss, abs=1e-5)
    assert_equal_gradients(whole, parts)


def test_failed_completions_leave_no_trace_in_the_gradient(policy, reference, groups) -> None:
    with_failed = [[MIXED[0][0], score(FAILED), *MIXED[0][2:]], *MIXED[1:]]
    first = groups[0]
    without = Group(first.example, first.prompt_ids, (first.completions[0], *first.completions[2:]))
    loss, _, got = gradients(policy, reference, plan(rollouts(groups, with_failed)))
    expected_batch = rollouts([without, *groups[1:]], [[MIXED[0][0], *MIXED[0][2:]], *MIXED[1:]])
    expected_loss, _, expected = gradients(policy, reference, plan(expected_batch))
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert_equal_gradients(got, expected, 1e-6)


def test_a_group_without_signal_and_without_kl_has_no_gradient(policy, reference, groups) -> None:
    equal = rollouts([groups[1]], [[score(1.0)] * 4])
    loss, _, found = gradients(policy, reference, plan(equal))
    assert loss == 0.0
    assert all(not gradient.any() for gradient in found.values())


def test_a_batch_of_which_nothing_could_be_scored_changes_nothing(policy, reference, groups) -> None:
    loss, stats, found = gradients(policy, reference, plan(rollouts(groups, [[score(FAILED)] * 4] * 3)))
    assert (loss, stats, found) == (0.0, [], {})


def test_law_5_on_fresh_rollouts_sampler_and_trainer_agree_and_nothing_is_clipped(policy, reference, groups) -> None:
    batch = rollouts(groups, MIXED)
    tight = plan(batch, clip_low=1e-6, clip_high=1e-6, beta={"math": 0.0, "qa": 0.0})
    loss, stats, _ = gradients(policy, reference, tight)
    assert max(row.difference_max for row in stats) < 1e-4
    assert sum(row.clipped for row in stats) == 0
    # Every ratio is 1, so each group's loss is minus its mean advantage, which is 0.
    assert loss == pytest.approx(0.0, abs=1e-6)


def test_a_second_update_is_measured_against_the_policy_that_sampled(reference, groups) -> None:
    policy = TinyPolicy(tiny_qwen())
    chosen = plan(rollouts(groups, MIXED), clip_low=0.001, clip_high=0.001)
    gradients(policy, reference, chosen)
    old = chosen.portions[0].old.clone()
    torch.optim.SGD(policy.model.parameters(), lr=0.1).step()
    _, stats, _ = gradients(policy, reference, chosen)
    assert torch.equal(chosen.portions[0].old, old)
    assert sum(row.clipped for row in stats) > 0


def test_what_an_earlier_policy_sampled_is_measured_against_that_policy(reference, groups) -> None:
    """As a second update is, whose old log-probabilities the trainer has seen for itself."""
    policy = TinyPolicy(tiny_qwen())
    fresh = plan(rollouts(groups, MIXED), clip_low=0.01, clip_high=0.01)
    gradients(policy, reference, fresh)
    torch.optim.SGD(policy.model.parameters(), lr=0.1).step()
    loss, stats, second = gradients(policy, reference, fresh)
    late = [replace(rollout, stale=True) for rollout in rollouts(groups, MIXED)]
    stale_loss, stale_stats, stale = gradients(policy, reference, plan(late, clip_low=0.01, clip_high=0.01))
    assert stale_loss == pytest.approx(loss, abs=1e-4)
    assert_equal_gradients(stale, second, 1e-4)
    assert [row.clipped for row in stale_stats] == [row.clipped for row in stats]
    assert sum(row.clipped for row in stats) > 0


def test_groups_of_both_kinds_share_a_batch(policy, reference, groups) -> None:
    batch = rollouts(groups, MIXED)
    loss, _, one = gradients(policy, reference, plan(batch))
    mixed = [batch[0], replace(batch[1], stale=True), batch[2]]
    other_loss, stats, other = gradients(policy, reference, plan(mixed))
    assert other_loss == pytest.approx(loss, abs=1e-5)  # nothing has been trained in between
    assert_equal_gradients(one, other, 1e-4)
    assert [row.difference_max == 0.0 for row in stats if row.task == "qa"] == [True] * 4


def test_an_update_makes_a_better_completion_more_likely_than_its_siblings(reference, groups) -> None:
    policy = TinyPolicy(tiny_qwen())
    batch = rollouts([groups[1]], [[score(1.0), score(0.0), score(0.0), score(0.0)]])
    chosen = plan(batch)

    def sequence_logprobs() -> torch.Tensor:
        portion = chosen.portions[0]
        return token_logprobs(policy.model, portion.prompts, portion.completions).logprobs.sum(dim=1).detach()

    before = sequence_logprobs()
    gradients(policy, reference, chosen)
    torch.optim.SGD(policy.model.parameters(), lr=0.05).step()
    change = sequence_logprobs() - before
    assert change[0] > 0
    assert (change[0] > change[1:]).all()


def test_the_kl_of_a_policy_to_itself_is_zero_and_it_is_reported_also_where_beta_is_zero(policy, groups) -> None:
    itself = FrozenCopy(policy.model, "base")
    _, stats, _ = gradients(policy, itself, plan(rollouts(groups, MIXED)))
    assert all(abs(row.kl) < 1e-5 for row in stats)
    shifted = FrozenCopy(tiny_qwen(initializer_range=0.2), "base")
    _, stats, _ = gradients(policy, shifted, plan(rollouts(groups, MIXED)))
    assert all(row.kl > 0 for row in stats if row.task == "qa")
