from __future__ import annotations

from omnithink_pl.rewards.scoring import OutcomeCache
from omnithink_pl.types import Outcome


class Recorder:
    """Finds out that everything is right, and remembers what it was asked."""

    def __init__(self, answer: Outcome) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def __call__(self, keys: list[str]) -> list[Outcome]:
        self.asked.append(keys)
        return [self.answer for _ in keys]


def test_every_key_is_found_out_once_within_and_across_batches() -> None:
    find_out, cache = Recorder(Outcome.of(1.0)), OutcomeCache[str]()
    assert cache.look_up(["a", "b", "a"], find_out) == [Outcome.of(1.0)] * 3
    assert cache.look_up(["b", "c", "a"], find_out) == [Outcome.of(1.0)] * 3
    cache.look_up(["c"], find_out)
    assert find_out.asked == [["a", "b"], ["c"]]


def test_a_failure_is_not_remembered() -> None:
    find_out, cache = Recorder(Outcome.failed("worker died")), OutcomeCache[str]()
    cache.look_up(["a"], find_out)
    cache.look_up(["a"], find_out)
    assert find_out.asked == [["a"], ["a"]]


def test_the_least_recently_used_is_forgotten() -> None:
    find_out, cache = Recorder(Outcome.of(0.0)), OutcomeCache[str](size=2)
    cache.look_up(["a", "b"], find_out)
    cache.look_up(["a"], find_out)
    cache.look_up(["c"], find_out)
    cache.look_up(["a"], find_out)
    cache.look_up(["b"], find_out)
    assert find_out.asked == [["a", "b"], ["c"], ["b"]]


def test_a_batch_larger_than_the_cache_is_answered_in_full() -> None:
    find_out, cache = Recorder(Outcome.of(0.0)), OutcomeCache[str](size=2)
    assert len(cache.look_up(list("abcdef"), find_out)) == 6
