"""Rewards begin while others still sample, and it makes no difference to what is learned when they begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.data.samplers import StratifiedTaskSampler
from omnithink_pl.distributed.failure_barrier import Peers
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.collection import Collector
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy
from omnithink_pl.grpo.metrics import Stopwatch
from omnithink_pl.grpo.partial_rollouts import RolloutPolicy
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
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished,
        begun: object,
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

    def __init__(self, steps: int = 1) -> None:
        self.stages = [Stage({"qa": 1.0, "writing": 1.0}, steps)]
        self.train = BATCH
        self.asked: list[tuple[int, int, list[str]]] = []

    def batch(self, step: int) -> list[Example]:
        return BATCH

    def more(self, step: int, already: int, tasks: list[str]) -> list[Example]:
        self.asked.append((step, already, tasks))
        return [Example(task, f"more {already + i}", "?", "Paris") for i, task in enumerate(tasks)]


def collector(engine: HandsOver, qa: Reward, writing: Reward, steps: int = 1, **settings: Any) -> Collector:
    tasks: Any = {
        "qa": SimpleNamespace(rubric=Rubric(((qa, 1.0), (FormatReward(), 0.1)))),
        "writing": SimpleNamespace(rubric=Rubric(((writing, 1.0), (FormatReward(), 0.1)))),
    }
    parts: Any = (engine, tasks, Sampling(2), GroupAdvantage(), FailureMonitor(FailurePolicy(max_rate=1.0)), 3)
    made = Collector(*parts, Peers(), Stopwatch(), RolloutPolicy(**settings))
    made.attach(POLICY, Batches(steps))  # type: ignore[arg-type]
    return made


def collected(made: Collector, step: int = 0) -> list[ScoredGroup]:
    return made.collect(BATCH, step)


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
    made = collector(engine, Noted(lambda groups: begun.set(), "group"), WritingReward(Longest()))
    collected(made)
    assert in_time == [True]
    assert made.metrics()["train/seconds/reward_hidden"] > 0


def test_a_batch_scored_early_or_late_gives_the_same_advantages() -> None:
    found = [collected(collector(HandsOver(o), QAReward(), WritingReward(Longest()))) for o in permutations(range(4))]
    assert all(other == found[0] for other in found)
    assert [group.group.example for group in found[0]] == BATCH
    signs = [[(a > 0) - (a < 0) for a in group.advantages if a is not None] for group in found[0]]
    assert signs == [[1, -1], [-1, 1], [-1, 1], [0, 0]]


def test_what_compares_a_batch_is_asked_once_about_all_of_it_in_order() -> None:
    asked: list[list[str]] = []
    reward = Noted(lambda groups: asked.append([group.example.uid for group in groups]), "batch")
    collected(collector(HandsOver([3, 2, 1, 0]), QAReward(), reward))
    assert asked == [["1", "2"]]


def test_what_asks_the_policy_waits_until_it_samples_no_more() -> None:
    engine = HandsOver([0, 1, 2, 3])
    asked: list[bool] = []
    reward = Noted(lambda groups: asked.append(engine.sampling), "policy")
    collected(collector(engine, QAReward(), reward))
    assert asked == [False]
    assert WritingReward(ModelJudge()).awaits == "policy"
    assert WritingReward(ModelJudge(model="another")).awaits == "group"


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

    with pytest.raises(ValueError, match=r"'noted': \d rows of outcomes for \d groups"):
        collected(collector(HandsOver([0, 1, 2, 3]), Losing(lambda groups: None, "group"), WritingReward(Longest())))
