"""Groups without a signal are replaced by groups of other prompts of their task: bounded, and counted."""

from __future__ import annotations

from collections.abc import Sequence

from omnithink_pl.rewards import Reward, WritingReward
from omnithink_pl.types import Group, Outcome
from tests.modules.test_collect import BATCH, COMPLETIONS, HandsOver, Longest, closed, collector

__all__ = ["closed"]


class Differs(Reward):
    """Tells the completions of some examples apart, and of no other."""

    name = "differs"
    awaits = "group"

    def __init__(self, *uids: str, failed: Sequence[str] = ()) -> None:
        self.uids, self.failed = uids, failed

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        return [[self._outcome(group.example.uid, i) for i in range(2)] for group in groups]

    def _outcome(self, uid: str, place: int) -> Outcome:
        if uid in self.failed:
            return Outcome.failed("verifier died")
        return Outcome.of(float(place == 0 and uid in self.uids))


def test_a_group_without_a_signal_is_replaced_by_one_of_its_task_and_the_others_stay() -> None:
    engine = HandsOver([0, 1, 2, 3])
    made = collector(engine, Differs("2", "more 0"), WritingReward(Longest()), refill_rounds=3)
    found = made.collect(BATCH, 0)
    assert [one.group.example.uid for one in found] == ["more 0", "1", "2", "more 1"]
    assert [one.task for one in found] == ["qa", "writing", "qa", "writing"]
    assert made.data.asked == [(0, 0, ["qa", "writing"])]
    assert all(one.has_signal for one in found)
    made.observe_step(found)
    assert made.metrics()["train/replaced_groups"] == 2.0
    assert len({seed for call in engine.calls for seed in call}) == 6, "each example has noise of its own"
    assert found[1].group.completions == COMPLETIONS[1]


def test_it_ends_after_so_many_rounds_and_keeps_what_it_has() -> None:
    made = collector(HandsOver([0, 1, 2, 3]), Differs(), WritingReward(Longest()), refill_rounds=2)
    found = made.collect(BATCH, 0)
    assert [one.group.example.uid for one in found if one.task == "qa"] == ["more 3", "more 4"]
    assert [asked[1:] for asked in made.data.asked] == [(0, ["qa", "qa", "writing"]), (3, ["qa", "qa"])]
    made.observe_step(found)
    assert made.metrics()["train/replaced_groups"] == 5.0


def test_nothing_is_replaced_where_it_is_not_asked_for_or_rewards_failed() -> None:
    for settings in ({}, {"refill_rounds": 2}):
        made = collector(HandsOver([0, 1, 2, 3]), Differs(failed=["1", "2"]), WritingReward(Longest()), **settings)
        found = made.collect(BATCH, 0)
        assert [one.group.example for one in found if one.task == "qa"] == [BATCH[0], BATCH[2]]
        assert [tasks for _, _, tasks in made.data.asked] == ([["writing"]] if settings else [])
