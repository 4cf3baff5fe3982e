"""The cache of outcomes, and what every reward refuses."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards import CodeReward, LetterReward, MathReward, QAReward, Reward, WritingReward
from omnithink_pl.rewards.base import OutcomeCache
from omnithink_pl.types import Options, Outcome, Reference, UnitTests
from tests.rewards.groups import LongerWins, SayingSandbox, answered, outcome


class Recorder:
    """Computes the same outcome for every key, and remembers the keys."""

    def __init__(self, answer: Outcome) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def __call__(self, keys: list[str]) -> list[Outcome]:
        self.asked.append(keys)
        return [self.answer for _ in keys]


def test_every_key_is_computed_once_within_and_across_batches_unless_it_failed() -> None:
    compute, cache = Recorder(Outcome.of(1.0)), OutcomeCache[str]()
    assert cache.look_up(["a", "b", "a"], compute) == [Outcome.of(1.0)] * 3
    assert cache.look_up(["b", "c", "a"], compute) == [Outcome.of(1.0)] * 3
    cache.look_up(["c"], compute)
    assert compute.asked == [["a", "b"], ["c"]]
    compute.answer = Outcome.failed("worker died")
    for _ in range(2):
        cache.look_up(["d"], compute)
    assert compute.asked[2:] == [["d"], ["d"]]


def test_the_least_recently_used_is_forgotten_and_a_batch_larger_than_the_cache_answered_in_full() -> None:
    compute, cache = Recorder(Outcome.of(0.0)), OutcomeCache[str](size=2)
    for keys in ("ab", "a", "c", "a", "b"):
        cache.look_up(list(keys), compute)
    assert compute.asked == [["a", "b"], ["c"], ["b"]]
    assert len(cache.look_up(list("abcdef"), compute)) == 6


@pytest.mark.parametrize(
    ("reward", "reference"),
    [
        (CodeReward(SayingSandbox()), "print(2)"),
        (MathReward(), Options(("a",), ("a",))),
        (QAReward(), UnitTests()),
        (LetterReward(), "Paris"),
        (WritingReward(LongerWins()), UnitTests()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_reference_of_another_task_is_refused_with_the_row(reward: Reward, reference: Reference) -> None:
    with pytest.raises(TypeError, match="row-7"):
        outcome(reward, reference, answered("a"))
