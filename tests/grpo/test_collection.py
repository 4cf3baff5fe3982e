"""Collecting rollouts: rewards overlap with sampling, rollouts sampled ahead, groups that are replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.data.samplers import StratifiedTaskSampler
from omnithink_pl.distributed.failure_barrier import FailureBarrier
from omnithink_pl.errors import BadInput, EngineFailure, RewardFailure
from omnithink_pl.grpo.advantage import GroupAdvantage
from omnithink_pl.grpo.collection import Collector, RolloutSettings
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.grpo.partial_rollouts import pack, unpack
from omnithink_pl.judge import Comparison, Preference
from omnithink_pl.judge.model import ModelJudge
from omnithink_pl.rewards import FormatReward, QAReward, Reward, Rubric, WritingReward
from omnithink_pl.rewards.scoring import BatchScoring
from omnithink_pl.rollout.base import Finished, Sampling
from omnithink_pl.types import Completion, Example, Group, Outcome
from tests.rewards.groups import answered

POLICY: Any = SimpleNamespace(encode=lambda messages: [5, 6])
BATCH = [
    Example("qa", "1", "Capital of France?", "Paris"),
    Example("writing", "1", "Write of a fox.", "A fox."),
    Example("qa", "2", "Capital of Italy?", "Rome"),
    Example("writing", "2", "Write of a moon.", "A moon."),
]
SAID = [["Paris", "Rome"], ["A fox!", "A fox! Yes!"], ["Paris", "Rome"], ["A fox!", "Moon"]]
COMPLETIONS = [tuple(Completion((1,), (-1.0,), answered(text), "stop") for text in row) for row in SAID]


@dataclass
class HandsOver:
    """Hands groups over in an order, and does something before the last one."""

    order: Sequence[int]
    before_last: Callable[[], object] = lambda: None
    sampling: bool = False
    calls: list[list[int]] = field(default_factory=list)

    def attach(self, policy: object) -> None: ...

    def sync(self) -> None: ...

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, seeds: Sequence[int], finished: Finished, begun: object
    ) -> list[tuple[Completion, ...]]:
        self.calls.append(list(seeds))
        drawn = [COMPLETIONS[place % 4] for place in range(len(prompts))]
        self.sampling = True
        for place in [place for place in self.order if place < len(prompts)]:
            if place == self.order[-1]:
                self.before_last()
            finished(place, drawn[place])
        self.sampling = False
        return drawn


class Beside(HandsOver):
    """Samples the next step's groups in a thread, once what it waits for is there."""

    def begin(self, *request: Any) -> Future[list[tuple[Completion, ...]]]:
        future: Future[list[tuple[Completion, ...]]] = Future()

        def work() -> None:
            try:
                future.set_result(self.generate(*request))
            except EngineFailure as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future


class Longest:
    """Compares across prompts: only the longest text of all it is asked about wins."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        longest = max(len(comparison.candidate) for comparison in comparisons)
        return [Preference.WIN if len(c.candidate) == longest else Preference.LOSS for c in comparisons]

    def close(self) -> None: ...


class Noted(Reward):
    """Finds everything right, and says when it is asked."""

    name = "noted"

    def __init__(self, asked: Callable[[Sequence[Group]], object], awaits: str) -> None:
        self.asked, self.awaits = asked, awaits  # type: ignore[assignment]

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        self.asked(groups)
        return [[Outcome.of(1.0) for _ in group.completions] for group in groups]


class Batches:
    """What the collector asks of the data."""

    task_sampler = StratifiedTaskSampler()

    def __init__(self) -> None:
        self.train = BATCH
        self.asked: list[tuple[int, int, list[str]]] = []

    def batch(self, step: int) -> list[Example]:
        return BATCH

    def more(self, step: int, already: int, tasks: list[str]) -> list[Example]:
        self.asked.append((step, already, tasks))
        return [Example(task, f"more {already + i}", "?", "Paris") for i, task in enumerate(tasks)]


def collector(
    engine: HandsOver, qa: Reward | None = None, writing: Reward | None = None, steps: int = 3, **settings: Any
) -> Collector:
    rewards = {"qa": qa or QAReward(), "writing": writing or WritingReward(Longest())}
    tasks: Any = {
        name: SimpleNamespace(rubric=Rubric(((reward, 1.0), (FormatReward(), 0.1)))) for name, reward in rewards.items()
    }
    parts: Any = (engine, tasks, Sampling(2), GroupAdvantage(), FailureMonitor(FailurePolicy(max_rate=1.0)), 3)
    made = Collector(*parts, FailureBarrier(), Stopwatch(), RolloutSettings(**settings))  # type: ignore[call-arg]
    made.attach(POLICY, Batches())  # type: ignore[arg-type]
    made.stage = StageRun((Stage({"qa": 1.0, "writing": 1.0}, steps),), 1)
    return made


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads of rewards end with the test."""
    made: list[Rubric] = []
    whole = Rubric.__init__
    monkeypatch.setattr(Rubric, "__init__", lambda self, rewards: made.append(self) or whole(self, rewards))
    yield
    for rubric in made:
        rubric.close()


def test_a_reward_of_the_first_group_begins_while_the_last_is_held_back() -> None:
    begun = threading.Event()
    engine = HandsOver([0, 1, 2, 3], before_last=lambda: in_time.append(begun.wait(60)))
    in_time: list[bool] = []
    made = collector(engine, Noted(lambda groups: begun.set(), "group"))
    made.collect(BATCH, 0)
    assert in_time == [True]
    assert made.metrics()["train/seconds/reward_hidden"] > 0


def test_a_batch_scored_early_or_late_gives_the_same_advantages() -> None:
    found = [collector(HandsOver(order)).collect(BATCH, 0) for order in permutations(range(4))]
    assert all(other == found[0] for other in found)
    assert [group.group.example for group in found[0]] == BATCH
    signs = [[(a > 0) - (a < 0) for a in group.advantages if a is not None] for group in found[0]]
    assert signs == [[1, -1], [-1, 1], [-1, 1], [0, 0]]


def test_what_compares_a_batch_is_asked_once_about_all_of_it_in_order_and_about_no_other_step() -> None:
    asked: list[list[str]] = []
    reward = Noted(lambda groups: asked.append([group.example.uid for group in groups]), "batch")
    made = collector(HandsOver([3, 2, 1, 0]), writing=reward, async_rewards=True)
    for step in range(3):
        made.collect(BATCH, step)
    assert asked == [["1", "2"]] * 3


def test_what_asks_the_policy_waits_until_it_samples_no_more() -> None:
    engine = HandsOver([0, 1, 2, 3])
    asked: list[bool] = []
    reward = Noted(lambda groups: asked.append(engine.sampling), "policy")
    collector(engine, writing=reward).collect(BATCH, 0)
    assert asked == [False]
    assert WritingReward(ModelJudge()).awaits == "policy"
    assert WritingReward(ModelJudge(model="another")).awaits == "group"
    with pytest.raises(BadInput, match=r"\.async_rewards: the reward 'writing' of data\.tasks\.writing asks"):
        collector(engine, writing=WritingReward(ModelJudge()), async_rewards=True)


def test_groups_that_have_come_in_meanwhile_are_scored_in_one_call() -> None:
    go, calls = threading.Event(), []

    def asked(groups: Sequence[Group]) -> None:
        go.wait(60)
        calls.append(len(groups))

    scoring = BatchScoring({"qa": Rubric(((Noted(asked, "group"), 1.0),))})
    groups = [Group(BATCH[0], (), COMPLETIONS[0])] * 5
    for place, group in enumerate(groups):
        scoring.add({place: group})
    scoring.complete()
    go.set()
    assert len(scoring.scores()) == 5
    assert sum(calls) == 5
    assert len(calls) <= 2


def test_a_reward_that_loses_groups_is_named() -> None:
    class Losing(Noted):
        def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
            return super().score(groups)[1:]

    with pytest.raises(RewardFailure, match=r"'noted' returned \[\] outcomes for groups of \[2\]"):
        collector(HandsOver([0, 1, 2, 3]), Losing(lambda groups: None, "group")).collect(BATCH, 0)


def test_the_next_rollouts_are_sampled_while_a_reward_of_this_step_is_held_back() -> None:
    go = threading.Event()
    engine = HandsOver([0, 1, 2, 3], before_last=lambda: len(engine.calls) == 2 and go.set())
    in_time: list[bool] = []
    slow = Noted(lambda groups: in_time.append(go.wait(60)), "batch")
    collector(engine, slow, async_rewards=True).collect(BATCH, 0)
    assert in_time[0]
    assert len(engine.calls) == 2


def test_an_engine_beside_the_trainer_samples_while_the_step_is_trained() -> None:
    trained = threading.Event()
    engine = Beside([0, 1, 2, 3], before_last=lambda: len(engine.calls) < 2 or trained.wait(60))
    made = collector(engine, async_rewards=True)
    assert not made.collect(BATCH, 0)[0].stale, "it returns while the next rollouts are held back"
    trained.set()
    assert made.collect(BATCH, 1)[0].stale
    assert len(engine.calls) == 3


def test_sampling_beside_the_trainer_that_fails_is_not_saved_and_ends_the_next_step() -> None:
    def dies() -> None:
        if len(engine.calls) == 2:
            raise EngineFailure("gone")

    engine = Beside([0, 1, 2, 3], before_last=dies)
    made = collector(engine, async_rewards=True)
    made.collect(BATCH, 0)
    assert made.state_dict(1) == {"pending": [], "partial": []}, "a resumed run samples anew"
    with pytest.raises(EngineFailure, match="gone"):
        made.collect(BATCH, 1)


@pytest.mark.parametrize("kind", [HandsOver, Beside])
def test_rollouts_are_one_step_late_at_most_none_outlives_its_stage_and_all_else_is_as_without(
    kind: type[HandsOver],
) -> None:
    """The same examples with the same noise; what the engine makes of it is then the earlier policy's."""
    one, other = kind([0, 1, 2, 3]), HandsOver([0, 1, 2, 3])
    ahead, plain = collector(one, async_rewards=True), collector(other)
    late, calls = [], []
    for step in range(3):
        found, expected = ahead.collect(BATCH, step), plain.collect(BATCH, step)
        assert [group.advantages for group in found] == [group.advantages for group in expected]
        late.append({group.stale for group in found})
        ahead.state_dict(step + 1)  # awaits what is being sampled
        calls.append(len(one.calls))
    assert late == [{False}, {True}, {True}]
    assert calls == [2, 3, 3]
    assert one.calls == other.calls
    assert ahead.state_dict(3) == {"pending": [], "partial": []}


@pytest.mark.parametrize("kind", [HandsOver, Beside])
@pytest.mark.parametrize("interrupted", [False, True])
def test_pending_rollouts_survive_a_checkpoint_and_are_not_sampled_again(
    tmp_path: Path, interrupted: bool, kind: type[HandsOver]
) -> None:
    engine, again = kind([3, 2, 1, 0]), kind([3, 2, 1, 0])
    made = collector(engine, steps=4, async_rewards=True)
    made.collect(BATCH, 0)
    torch.save(made.state_dict(1), tmp_path / "state")
    expected = made.collect(BATCH, 1)
    if interrupted:  # its update did not come to an end
        torch.save(made.state_dict(1), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    assert [(one["step"], one["sampled_at"]) for one in state["pending"]] == [(1, 0), (2, 1)][: 1 + interrupted]
    resumed = collector(again, steps=4, async_rewards=True)
    resumed.load_state_dict(state)
    assert resumed.collect(BATCH, 1) == expected
    resumed.state_dict(2)
    assert again.calls == ([] if interrupted else engine.calls[2:]), "at most the step after it"


def test_what_is_packed_is_what_is_unpacked() -> None:
    odd = Completion((7,), (-0.1234567890123456789,), "é\n", "length")
    groups = [Group(BATCH[0], (5, 6), COMPLETIONS[0]), Group(BATCH[3], (9,), (odd, *COMPLETIONS[1]))]
    assert unpack(pack(groups), {example.key: example for example in BATCH}) == groups
    assert unpack(pack([]), {}) == []
    with pytest.raises(BadInput, match=r"answer writing/2, which data\.tasks no longer has"):
        unpack(pack(groups), {example.key: example for example in BATCH[:3]})


class Differs(Reward):
    """Tells the completions of some examples apart, and of no other."""

    name = "differs"
    awaits = "group"

    def __init__(self, *uids: str, failed: Sequence[str] = ()) -> None:
        self.uids, self.failed = uids, failed

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        return [
            [Outcome.failed("verifier died")] * 2
            if group.example.uid in self.failed
            else [Outcome.of(float(group.example.uid in self.uids)), Outcome.of(0.0)]
            for group in groups
        ]


def test_a_group_without_a_signal_is_replaced_by_one_of_its_task_and_the_others_stay() -> None:
    engine = HandsOver([0, 1, 2, 3])
    made = collector(engine, Differs("2", "more 0"), refill_rounds=3)
    found = made.collect(BATCH, 0)
    assert [one.group.example.uid for one in found] == ["more 0", "1", "2", "more 1"]
    assert [one.task for one in found] == ["qa", "writing", "qa", "writing"]
    assert made.data.asked == [(0, 0, ["qa", "writing"])]
    assert all(one.has_signal for one in found)
    made.observe_step()
    assert made.metrics()["train/replaced_groups"] == 2.0
    assert len({seed for call in engine.calls for seed in call}) == 6, "each example has noise of its own"
    assert found[1].group.completions == COMPLETIONS[1]


def test_it_ends_after_so_many_rounds_and_keeps_what_it_has() -> None:
    made = collector(HandsOver([0, 1, 2, 3]), Differs(), refill_rounds=2)
    found = made.collect(BATCH, 0)
    assert [one.group.example.uid for one in found if one.task == "qa"] == ["more 3", "more 4"]
    assert [asked[1:] for asked in made.data.asked] == [(0, ["qa", "qa", "writing"]), (3, ["qa", "qa"])]
    made.observe_step()
    assert made.metrics()["train/replaced_groups"] == 5.0


def test_nothing_is_replaced_where_it_is_not_asked_for_or_rewards_failed() -> None:
    for settings in ({}, {"refill_rounds": 2}):
        made = collector(HandsOver([0, 1, 2, 3]), Differs(failed=["1", "2"]), **settings)
        found = made.collect(BATCH, 0)
        assert [one.group.example for one in found if one.task == "qa"] == [BATCH[0], BATCH[2]]
        assert [tasks for _, _, tasks in made.data.asked] == ([["writing"]] if settings else [])
