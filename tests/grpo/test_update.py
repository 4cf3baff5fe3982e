"""Laws of an update on a batch of rollouts, with real completions of a real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from omnithink_pl.distributed.collectives import sum_gradients
from omnithink_pl.grpo import update
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective
from omnithink_pl.grpo.reference import FrozenCopy, ReferencePolicy
from omnithink_pl.grpo.update import TokenStats, UpdatePlan, sum_by_task
from omnithink_pl.model import micro_batches
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.model.sharding import full, shard
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.types import Example, Group, Score
from tests.model.test_sharding import in_two_processes, mesh
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
    return [ScoredGroup(one, tuple(row), tuple(GroupAdvantage()(row))) for one, row in zip(groups, scores, strict=True)]


MIXED = [
    [score(1.0), score(0.0), score(0.0), score(1.0, layout=0.0)],
    [score(0.0), score(1.0), score(0.0), score(0.0)],
    [score(0.0), score(0.0), score(0.0), score(1.0)],
]
NO_KL = {"math": 0.0, "qa": 0.0}


def plan(
    batch: list[ScoredGroup], budget: int = 10_000, share: bool = True, beta=BETA, level: Any = "none", **objective
) -> UpdatePlan:
    memory = MemorySettings(micro_batch_tokens=budget, share_prompt=share)
    made, correction, sampling = Objective(**objective), ImportanceCorrection(level), Sampling(max_tokens=12)
    return UpdatePlan(batch, made, correction, beta, sampling, memory, torch.device("cpu"))


def gradients(
    policy: TinyPolicy, reference: ReferencePolicy | None, chosen: UpdatePlan
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
    assert len(divided.trained) > 1 or not share
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


def test_a_batch_of_which_nothing_could_be_scored_changes_nothing(policy, reference, groups) -> None:
    loss, stats, found = gradients(policy, reference, plan(rollouts(groups, [[score(FAILED)] * 4] * 3)))
    assert (loss, stats, found) == (0.0, [], {})


def test_law_5_on_fresh_rollouts_sampler_and_trainer_agree_and_nothing_is_clipped(policy, reference, groups) -> None:
    batch = rollouts(groups, MIXED)
    tight = plan(batch, clip_low=1e-6, clip_high=1e-6, beta=NO_KL)
    loss, stats, _ = gradients(policy, reference, tight)
    assert max(row.difference_max for row in stats) < 1e-4
    assert sum(row.clipped for row in stats) == 0
    # Every ratio is 1, so each group's loss is minus its mean advantage, which is 0.
    assert loss == pytest.approx(0.0, abs=1e-6)


def test_what_an_earlier_policy_sampled_is_measured_against_that_policy(reference, groups) -> None:
    """As a second update is, whose old log-probabilities the trainer has seen for itself."""
    policy = TinyPolicy(tiny_qwen())
    fresh = plan(rollouts(groups, MIXED), clip_low=0.01, clip_high=0.01)
    gradients(policy, reference, fresh)
    old = fresh.trained[0].old.clone()
    torch.optim.SGD(policy.model.parameters(), lr=0.1).step()
    loss, stats, second = gradients(policy, reference, fresh)
    assert torch.equal(fresh.trained[0].old, old)
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
        batch = chosen.trained[0]
        return token_logprobs(policy.model, batch.prompts, batch.completions).logprobs.sum(dim=1).detach()

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


# The second and third group have equal rewards.
ONE_SIGNAL = [MIXED[0], [score(1.0)] * 4, [score(0.0)] * 4]


def with_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UpdatePlan, "_has_gradient", lambda self, group: True)


def trained_weights(reference: ReferencePolicy | None, chosen: UpdatePlan) -> tuple[list[torch.Tensor], list[float]]:
    """Weights after two updates on the same batch, and their losses."""
    policy, losses = TinyPolicy(tiny_qwen()), []
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(2):
        losses.append(gradients(policy, reference, chosen)[0])
        optimizer.step()
    return list(policy.model.parameters()), losses


@pytest.mark.parametrize("aggregation", ["completion", "token", "constant"])
@pytest.mark.parametrize("beta", [BETA, NO_KL], ids=["with KL", "without KL"])
@pytest.mark.parametrize(
    ("budget", "settings", "level"),
    [(10_000, {}, "none"), (25, {}, "token"), (10_000, {"ratio": "sequence"}, "sequence")],
    ids=["one micro-batch", "several", "sequence"],
)
def test_groups_without_a_gradient_are_left_out_and_change_no_weight(
    reference, groups, aggregation, beta, budget, settings, level, monkeypatch
) -> None:
    batch, settings = rollouts(groups, ONE_SIGNAL), {"aggregation": aggregation} | settings
    anchor = reference if any(beta.values()) else None
    chosen = plan(batch, budget, beta=beta, level=level, **settings)
    in_passes = {group for micro_batch in chosen.trained for group in micro_batch.prompts}
    kept = [
        group.prompt_ids
        for group, scores in zip(groups, ONE_SIGNAL, strict=True)
        if beta[group.example.task] or scores is ONE_SIGNAL[0]
    ]
    assert in_passes == set(kept)
    assert len(kept) == (2 if any(beta.values()) else 1)
    weights, losses = trained_weights(anchor, chosen)
    with_every_group(monkeypatch)
    expected, expected_losses = trained_weights(anchor, plan(batch, budget, beta=beta, level=level, **settings))
    assert losses == pytest.approx(expected_losses, abs=1e-6)
    for ours, right in zip(weights, expected, strict=True):
        torch.testing.assert_close(ours, right, atol=1e-6, rtol=1e-6)


def test_where_no_group_has_a_gradient_the_optimisers_moments_see_the_step_bit_for_bit(groups, monkeypatch) -> None:
    found = []
    for every in (False, True):
        if every:
            with_every_group(monkeypatch)
        policy = TinyPolicy(tiny_qwen())
        optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.01)
        for batch in (rollouts(groups[:1], MIXED[:1]), rollouts(groups, [[score(1.0)] * 4] * 3)):
            loss, stats, _ = gradients(policy, None, plan(batch, beta=NO_KL))
            optimizer.step()
        assert loss == 0.0
        assert stats
        found.append([*policy.model.parameters(), *(v for s in optimizer.state.values() for v in s.values())])
    assert all(torch.equal(ours, right) for ours, right in zip(*found, strict=True))


def test_tasks_without_a_gradient_are_observed_in_one_micro_batch_at_most(policy, reference, groups) -> None:
    _, stats, _ = gradients(policy, reference, plan(rollouts(groups, ONE_SIGNAL)))
    assert [row.task for row in stats].count("qa") == 4, "its statistics do not vanish"
    _, whole, _ = gradients(policy, reference, plan(rollouts(groups, MIXED)))
    sums = [sorted(sum_by_task(rows), key=lambda row: row.task) for rows in (stats, whole)]
    for ours, right in zip(*sums, strict=True):
        assert ours.entropy == pytest.approx(right.entropy, rel=1e-5)
        assert ours.difference == pytest.approx(right.difference, rel=0.2, abs=1e-6)
    nothing = plan(rollouts(groups, [[score(1.0)] * 4] * 3), budget=45, beta=NO_KL)
    assert nothing.trained == []
    assert [len(batch.prompts) for batch in nothing.observed] == [1]


def test_statistics_of_a_task_are_the_sums_of_its_completions() -> None:
    rows = [
        TokenStats("qa", 2, 0.5, 1.0, 1, 0.2, 0.2, importance=2.0),
        TokenStats("math", 1, None, 4.0, 0, 0.0, 0.0),
        TokenStats("qa", 3, 0.25, 2.0, 0, 0.1, 0.1, importance=3.0),
    ]
    assert sum_by_task(rows) == [TokenStats("qa", 5, 0.75, 3.0, 1, pytest.approx(0.3), 0.2, importance=5.0), rows[1]]


@pytest.mark.parametrize("sharded", [False, True], ids=["DDP", "sharded"])
def test_a_process_without_a_gradient_pass_trains_as_one_with_the_whole_batch(groups, sharded: bool) -> None:
    beta = NO_KL

    def check(rank: int) -> None:
        alone, model = tiny_qwen(), tiny_qwen()
        if sharded:
            shard(model, mesh())
        for scores in (ONE_SIGNAL, [[score(1.0)] * 4] * 3):  # a signal in the first process only; then in none
            own = rollouts(groups, scores)[rank::2]
            loss, stats, _ = gradients(TinyPolicy(model), None, plan(own, beta=beta))
            sum_gradients(model.parameters())
            assert stats
            # The whole batch's totals, in one process: not to be summed over both.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(update, "sum_over_processes", lambda numbers, device: list(numbers))
                patch.setattr(micro_batches, "sharded_modules", lambda model: [])
                right, _, _ = gradients(TinyPolicy(alone), None, plan(rollouts(groups, scores), beta=beta))
            assert loss == pytest.approx(right, abs=1e-6)
            for ours, expected in zip(model.parameters(), alone.parameters(), strict=True):
                torch.testing.assert_close(full(ours.grad), expected.grad, atol=1e-6, rtol=1e-5)

    in_two_processes(check)
