"""Asynchronous rewards: the next rollouts begin before this step's rewards are there, one step off-policy at most."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.partial_rollouts import pack, unpack
from omnithink_pl.judge.model import ModelJudge
from omnithink_pl.rewards import QAReward, WritingReward
from omnithink_pl.types import Completion, Group
from tests.modules.test_collect import BATCH, COMPLETIONS, HandsOver, Longest, Noted, closed, collector

__all__ = ["closed"]


def test_the_next_rollouts_are_sampled_while_a_reward_of_this_step_is_held_back() -> None:
    go = threading.Event()
    engine = HandsOver([0, 1, 2, 3], before_last=lambda: len(engine.calls) == 2 and go.set())
    in_time: list[bool] = []
    slow = Noted(lambda groups: in_time.append(go.wait(60)), "batch")
    made = collector(engine, slow, WritingReward(Longest()), steps=3, async_rewards=True)
    made.collect(BATCH, 0)
    assert in_time[0]
    assert len(engine.calls) == 2


def test_rollouts_are_one_step_late_at_most_and_none_outlives_its_stage() -> None:
    engine = HandsOver([0, 1, 2, 3])
    made = collector(engine, QAReward(), WritingReward(Longest()), steps=3, async_rewards=True)
    late, calls = [], []
    for step in range(3):
        late.append({one.stale for one in made.collect(BATCH, step)})
        calls.append(len(engine.calls))
    assert late == [{False}, {True}, {True}]
    assert calls == [2, 3, 3]
    assert made.state_dict(3) == []


def test_each_step_gets_what_it_would_have_got_without() -> None:
    """The same examples with the same noise; what the engine makes of it is then the earlier policy's."""
    one, other = HandsOver([0, 1, 2, 3]), HandsOver([0, 1, 2, 3])
    ahead = collector(one, QAReward(), WritingReward(Longest()), steps=3, async_rewards=True)
    plain = collector(other, QAReward(), WritingReward(Longest()), steps=3)
    for step in range(3):
        found, expected = ahead.collect(BATCH, step), plain.collect(BATCH, step)
        assert [group.advantages for group in found] == [group.advantages for group in expected]
    assert one.calls == other.calls


def test_pending_rollouts_survive_a_checkpoint_and_are_not_sampled_again(tmp_path) -> None:
    engine = HandsOver([3, 2, 1, 0])
    made = collector(engine, QAReward(), WritingReward(Longest()), steps=4, async_rewards=True)
    made.collect(BATCH, 0)
    torch.save(made.state_dict(1), tmp_path / "state")
    expected = made.collect(BATCH, 1)
    again = HandsOver([3, 2, 1, 0])
    resumed = collector(again, QAReward(), WritingReward(Longest()), steps=4, async_rewards=True)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert resumed.collect(BATCH, 1) == expected
    assert again.calls == engine.calls[2:], "only the step after it"


def test_an_interrupted_step_is_taken_again_with_the_rollouts_it_had(tmp_path) -> None:
    made = collector(HandsOver([0, 1, 2, 3]), QAReward(), WritingReward(Longest()), steps=4, async_rewards=True)
    made.collect(BATCH, 0)
    expected = made.collect(BATCH, 1)
    state = made.state_dict(1)  # its update did not come to an end
    assert [(one["step"], one["sampled_at"]) for one in state] == [(1, 0), (2, 1)]
    again = HandsOver([0, 1, 2, 3])
    resumed = collector(again, QAReward(), WritingReward(Longest()), steps=4, async_rewards=True)
    resumed.load_state_dict(state)
    assert resumed.collect(BATCH, 1) == expected
    assert again.calls == []


def test_what_is_packed_is_what_is_unpacked() -> None:
    odd = Completion((7,), (-0.1234567890123456789,), "é\n", "length")
    groups = [Group(BATCH[0], (5, 6), COMPLETIONS[0]), Group(BATCH[3], (9,), (odd, *COMPLETIONS[1]))]
    assert unpack(pack(groups), {example.key: example for example in BATCH}) == groups
    assert unpack(pack([]), {}) == []
    with pytest.raises(BadInput, match=r"answer writing/2, which data\.tasks no longer has"):
        unpack(pack(groups), {example.key: example for example in BATCH[:3]})


def test_a_judge_that_asks_the_policy_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"model\.rollouts\.async_rewards: the reward 'writing' of data\.tasks\.writing asks"
    ):
        collector(HandsOver([0]), QAReward(), WritingReward(ModelJudge()), async_rewards=True)


def test_rewards_of_two_steps_are_not_scored_as_one_batch() -> None:
    asked: list[Sequence[str]] = []
    reward = Noted(lambda groups: asked.append([group.example.uid for group in groups]), "batch")
    made = collector(HandsOver([0, 1, 2, 3]), QAReward(), reward, steps=3, async_rewards=True)
    for step in range(3):
        made.collect(BATCH, step)
    assert asked == [["1", "2"]] * 3
