"""Completions cut after a segment: each group is trained once, complete, each token's ratio to what sampled it."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any, final

import pytest
import torch

from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data.samplers import StratifiedTaskSampler
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.collection import Collector, RolloutSettings
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.grpo.objective import ImportanceCorrection, Objective
from omnithink_pl.grpo.update import UpdatePlan
from omnithink_pl.model.memory import MemorySettings
from omnithink_pl.rewards import Reward, Rubric
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.types import Example, Group, Outcome
from tests.grpo.test_collection import closed
from tests.tiny import TinyPolicy, teacher_forced, tiny_qwen

__all__ = ["closed"]

STAGES = [Stage({"math": 1.0}, 5), Stage({"math": 1.0}, 2)]
LAST = 4  # step of the first stage
SAMPLING = Sampling(4, max_tokens=24)
BATCH = 3


@final
class LengthIsOdd(Reward):
    """Tells most groups apart."""

    name = "odd"

    def score(self, groups: list[Group]) -> list[list[Outcome]]:
        return [[Outcome.of(len(c.token_ids) % 2) for c in group.completions] for group in groups]


def example(uid: str) -> Example:
    return Example("math", uid, uid, "!", ({"role": "user", "content": uid},))


class Prompts:
    """Another batch in each step."""

    task_sampler = StratifiedTaskSampler()
    train = [example(f"{step}-{i}") for step in range(7) for i in range(BATCH)]  # noqa: RUF012

    def batch(self, step: int) -> list[Example]:
        return self.train[BATCH * step : BATCH * (step + 1)]

    def more(self, step: int, already: int, tasks: list[str]) -> list[Example]:
        return [example(f"more {step}-{already + i}") for i in range(len(tasks))]


def tiny() -> TinyPolicy:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(40, 50))  # one token in ten: lengths 1 to 24
    return policy


def collector(policy: TinyPolicy, **settings: Any) -> Collector:
    tasks: Any = {"math": SimpleNamespace(rubric=Rubric(((LengthIsOdd(), 1.0),)))}
    engine = TransformersEngine()
    engine.attach(policy)  # type: ignore[arg-type]
    parts: Any = (engine, tasks, SAMPLING, GroupAdvantage(), FailureMonitor(FailurePolicy()), 3)
    made = Collector(*parts, FailureBarrier(), Stopwatch(), RolloutSettings(**settings))  # type: ignore[call-arg]
    made.attach(policy, Prompts())  # type: ignore[arg-type]
    return made


def trained(made: Collector, steps: range = range(7)) -> list[list[ScoredGroup]]:
    """What each step is trained on, while the weights stay as they are."""
    found = []
    for step in steps:
        made.stage = StageRun(tuple(STAGES), 1 if step <= LAST else 2)
        found.append(made.collect(made.data.batch(step), step))
        made.observe_step()
    return found


def answers(steps: list[list[ScoredGroup]]) -> dict[str, tuple[tuple[int, ...], ...]]:
    groups = list(chain.from_iterable(steps))
    found = {one.group.example.uid: tuple(c.token_ids for c in one.group.completions) for one in groups}
    assert len(found) == len(groups), "none is trained twice"
    return found


@pytest.fixture(scope="module")
def plain() -> list[list[ScoredGroup]]:
    return trained(collector(tiny()))


@pytest.mark.parametrize("segment", [24, 1000])
def test_segments_as_long_as_completions_change_nothing(segment: int, plain: list[list[ScoredGroup]]) -> None:
    made = collector(tiny(), segment_tokens=segment)
    assert trained(made) == plain
    assert made.metrics()["train/stale_tokens"] == made.metrics()["train/carried_groups"] == 0.0


@pytest.mark.parametrize("settings", [{}, {"async_rewards": True}])
@pytest.mark.parametrize("segment", [3, 7, 16])
def test_a_stage_is_trained_on_what_it_would_be_without_each_group_once(
    segment: int, settings: dict[str, bool], plain: list[list[ScoredGroup]]
) -> None:
    """The weights stay, so that the completions must be the same ones, however often they were cut."""
    found = trained(collector(tiny(), segment_tokens=segment, **settings))
    for stage in (slice(0, 5), slice(5, 7)):
        assert answers(found[stage]) == answers(plain[stage])
    assert all(found), "no step is without groups"
    assert [len(groups) for groups in found] != [BATCH] * 7, "some were carried"
    late = [step - int(one.group.example.uid.split("-")[0]) for step, groups in enumerate(found) for one in groups]
    assert 0 < max(late) <= -(-24 // segment) - 1


def test_log_probabilities_are_those_of_a_forward_where_the_weights_stay() -> None:
    policy = tiny()
    for one in chain.from_iterable(trained(collector(policy, segment_tokens=5), range(3))):
        for completion in one.group.completions:
            expected = teacher_forced(policy.model, one.group.prompt_ids, completion.token_ids)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_the_ratio_of_each_token_is_to_the_policy_that_sampled_it(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, calls = tiny(), []
    made = collector(policy, segment_tokens=5)
    generate = made.engine.generate

    def noted(*asked: Any) -> Any:  # a step that ends no group calls twice
        calls.append((step, {name: value.clone() for name, value in policy.model.state_dict().items()}))
        return generate(*asked)

    monkeypatch.setattr(made.engine, "generate", noted)
    made.stage = StageRun(tuple(STAGES), 1)
    for step in range(LAST + 1):
        groups = made.collect(made.data.batch(step), step)
        for one in groups:
            check_ratio(policy, one, calls, step)
        made.observe_step()
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
    assert made.metrics()["train/stale_tokens"] > 0.0
    assert made.metrics()["train/trained_groups"] > 3.0


def check_ratio(policy: TinyPolicy, one: ScoredGroup, calls: list[tuple[int, Any]], step: int) -> None:
    """Segment by segment against the weights of each call since the group's first."""
    parts: Any = ([one], Objective(), ImportanceCorrection(), {"math": 0.1}, SAMPLING, MemorySettings())
    plan = UpdatePlan(*parts, torch.device("cpu"))  # type: ignore[call-arg]
    plan.accumulate(policy.model, None, lambda loss: loss.backward())
    own = [call for call in calls if call[0] >= int(one.group.example.uid.split("-")[0])]
    for row, i in enumerate(one.kept):
        completion, expected = one.group.completions[i], []
        for when, weights in own:
            policy.model.load_state_dict(weights)
            drawn = len(expected)
            whole = teacher_forced(policy.model, one.group.prompt_ids, completion.token_ids)
            expected += whole[drawn : None if when == LAST else drawn + 5]
        before = sum(5 for when, _ in own if when < step)
        assert completion.earlier == min(before, len(completion.token_ids))
        old = plan.trained[0].old[row, : len(completion.token_ids)]  # type: ignore[index]
        assert old.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"async_rewards": True}, {"refill_rounds": 1}])
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_is_carried_survives_a_checkpoint(settings: dict[str, Any], interrupted: bool, tmp_path: Any) -> None:
    made = collector(tiny(), segment_tokens=5, **settings)
    first = trained(made, range(3))
    # Where it is interrupted, the update of the last of these steps did not come to its end.
    torch.save(made.state_dict(2 if interrupted else 3), tmp_path / "state")
    expected = trained(made, range(3, 7))
    resumed = collector(tiny(), segment_tokens=5, **settings)
    state = torch.load(tmp_path / "state", weights_only=True)
    assert state["partial"]
    resumed.load_state_dict(state)
    assert resumed.state_dict(3) == state, "saved again before anything was asked of it"
    found = trained(resumed, range(2 if interrupted else 3, 7))
    assert found == (first[2:] if interrupted else []) + expected


def test_replacements_are_trained_in_the_step_that_asked_for_them() -> None:
    for step, groups in enumerate(trained(collector(tiny(), segment_tokens=5, refill_rounds=2))):
        more = [one.group.example.uid for one in groups if one.group.example.uid.startswith("more")]
        assert all(uid.startswith(f"more {step}-") for uid in more)
        if step in {LAST, LAST + 2}:
            assert all(not SAMPLING.is_open(c) for one in groups for c in one.group.completions)


@pytest.mark.parametrize("wrong", [{"segment_tokens": 0}, {"refill_rounds": -1}, {"updates_per_batch": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=rf"model\.rollouts\.{next(iter(wrong))} is"):
        RolloutSettings(**wrong)
