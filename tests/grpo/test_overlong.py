"""Overlong completions: left out of the loss, punished before they are cut, or neither."""

from __future__ import annotations

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.advantage import GroupAdvantage, ScoredGroup
from omnithink_pl.grpo.metrics import rollout_metrics
from omnithink_pl.grpo.overlong import Overlong
from omnithink_pl.rewards import Rubric, WritingReward
from omnithink_pl.tracking.artifacts import rollout_table
from omnithink_pl.types import Completion, Example, Group
from tests.grpo.test_collection import BATCH, HandsOver, Longest, Noted, collector
from tests.scores import score

SCORES = (score(1.0), score(0.0), score(0.0), score(0.0, layout=0.0))


def group(*lengths: int, longest: int = 12) -> Group:
    """Completions of these lengths; one of the longest length is cut off."""
    cut = {length: "length" if length == longest else "stop" for length in lengths}
    completions = tuple(Completion((1,) * n, (-1.0,) * n, "", cut[n]) for n in lengths)  # type: ignore[arg-type]
    return Group(Example("math", "row", "?", "!"), (1, 2), completions)


def equation_13(length: int, longest: int, cache: int) -> float:
    """As DAPO prints it, case by case."""
    if length <= longest - cache:
        return 0.0
    if length <= longest:
        return ((longest - cache) - length) / cache
    return -1.0


@pytest.mark.parametrize(("longest", "cache"), [(None, 4), (None, 12), (8, 3), (8, 8), (1, 1)])
def test_the_soft_punishment_is_equation_13(longest: int | None, cache: int) -> None:
    wanted = [equation_13(length, longest or 12, cache) for length in range(1, 13)]
    assert Overlong(cache=cache, max_length=longest).penalties(group(*range(1, 13)), 12) == pytest.approx(wanted)
    assert wanted[-1] == -1.0


def test_it_is_added_to_the_total_before_advantages_and_to_nothing_that_is_logged_as_reward() -> None:
    lengths = (12, 10, 6, 6)
    penalties = Overlong(cache=4).penalties(group(*lengths), 12)
    totals = [1.2 - 1.0, 0.2 - 0.5, 0.2, 0.1]
    mean = sum(totals) / 4
    deviation = (sum((total - mean) ** 2 for total in totals) / 3) ** 0.5
    advantages = GroupAdvantage()(SCORES, penalties)
    assert advantages == pytest.approx([(total - mean) / deviation for total in totals])
    scored = ScoredGroup(group(*lengths), SCORES, tuple(advantages), penalties=penalties)
    plain = ScoredGroup(group(*lengths), SCORES, tuple(GroupAdvantage()(SCORES)))
    metrics, before = (rollout_metrics([one.record()]) for one in (scored, plain))
    assert metrics.pop("train/overlong_penalty") == metrics.pop("train/math/overlong_penalty") == -0.375
    assert metrics == before
    assert rollout_table([scored], 1)["overlong_penalty"] == [-1.0, -0.5, 0.0, 0.0]
    assert "overlong_penalty" not in rollout_table([plain], 1)


def test_law_1_equal_totals_with_equal_punishments_have_zero_advantages() -> None:
    equal = Overlong(cache=6).penalties(group(9, 9, 9), 12)
    assert GroupAdvantage()([score(1.0)] * 3, equal) == [0.0] * 3
    assert GroupAdvantage()([score(1.0)] * 3, ()) == [0.0] * 3


def test_the_filter_takes_the_truncated_out_of_the_loss_and_leaves_their_siblings_advantages() -> None:
    advantages = GroupAdvantage()(SCORES)
    kept = Overlong(filter=True).mask(group(12, 5, 12, 6), advantages)
    assert kept == (None, advantages[1], None, advantages[3])
    assert Overlong().mask(group(12, 5, 12, 6), advantages) == tuple(advantages)
    alone = ScoredGroup(group(12, 5, 12, 12), SCORES, Overlong(filter=True).mask(group(12, 5, 12, 12), advantages))
    assert (alone.kept, alone.has_signal) == ([1], True)
    none = ScoredGroup(group(12, 12, 12, 12), SCORES, Overlong(filter=True).mask(group(12, 12, 12, 12), advantages))
    assert (none.kept, none.has_signal) == ([], False)


def test_a_step_is_collected_with_both_and_groups_without_a_signal_are_replaced() -> None:
    cut = [tuple(Completion((1,) * 4, (-1.0,) * 4, "", "length") for _ in range(2))] * 4
    engine = HandsOver([0, 1, 2, 3])
    made = collector(engine, Noted(lambda groups: None, "group"), WritingReward(Longest()), refill_rounds=1)
    made.overlong, made.sampling = Overlong(filter=True, cache=2), type(made.sampling)(2, max_tokens=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.grpo.test_collection.COMPLETIONS", cut)
        groups = made.collect(BATCH, 0)
    assert [one.advantages for one in groups] == [(None, None)] * 4
    assert [one.penalties for one in groups] == [(-1.0, -1.0)] * 4
    assert made.metrics()["train/replaced_groups"] == 4.0
    for task in made.tasks.values():
        assert isinstance(task.rubric, Rubric)
        task.rubric.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache": 0}, r"model\.overlong\.cache is 0; use 1 to the longest completion, 12"),
        ({"cache": 9, "max_length": 8}, r"model\.overlong\.cache is 9; use 1 to the longest completion, 8"),
        ({"max_length": 13}, r"model\.overlong\.max_length is 13; use 1 to model\.sampling\.max_tokens=12"),
    ],
)
def test_lengths_that_cannot_be_reached_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Overlong(**settings).check(12)  # type: ignore[arg-type]
