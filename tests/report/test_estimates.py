"""Intervals and p-values against what they promise, and against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from omnithink_pl.report.estimates import Difference, difference, holm, mean_score, over_seeds
from omnithink_pl.report.results import Method


def beyond_prompts(found: Difference) -> bool:
    return found.prompts.known and not found.prompts.low <= 0.0 <= found.prompts.high


def method(name: str, chance: float, generator: np.random.Generator, prompts: int = 100, seeds: int = 3) -> Method:
    """0/1 scores on the same prompts, which are of equal difficulty."""
    by_seed = {
        seed: {str(uid): float(value) for uid, value in enumerate(generator.random(prompts) < chance)}
        for seed in range(seeds)
    }
    scores = {seed: float(np.mean(list(values.values()))) for seed, values in by_seed.items()}
    return Method(name, {"math": scores}, {"math": by_seed})


def test_students_interval_by_hand() -> None:
    found = over_seeds([0.1, 0.2, 0.6])
    # Mean 0.3, deviation 0.26458, quantile of t with 2 degrees of freedom 4.30265.
    reach = 4.30265 * 0.264575 / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach), abs=1e-4)
    assert not over_seeds([0.4]).known


def test_one_seed_has_an_interval_over_prompts() -> None:
    one = method("a", 0.5, np.random.default_rng(0), 400, 1)
    found = mean_score(one, ["math"])
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)


def test_a_difference_that_is_there_is_found_and_one_that_is_not_rarely() -> None:
    generator = np.random.default_rng(1)
    false = 0
    for _ in range(60):
        base = method("base", 0.4, generator)
        assert beyond_prompts(difference(method("a", 0.7, generator), base, ["math"], 500))
        false += beyond_prompts(difference(method("b", 0.4, generator), base, ["math"], 500))
    assert false <= 8


def test_prompts_are_paired() -> None:
    """Prompts differ much in difficulty, methods little: only pairing can tell them apart."""
    hard = {str(uid): uid / 100 for uid in range(100)}
    better = {uid: min(1.0, value + 0.02) for uid, value in hard.items()}
    one = Method("one", {"math": {0: 0.515}}, {"math": {0: better}})
    other = Method("other", {"math": {0: 0.495}}, {"math": {0: hard}})
    found = difference(one, other, ["math"])
    assert beyond_prompts(found)
    assert found.prompts.value == pytest.approx(0.02, abs=1e-3)
    assert found.p is not None
    assert found.p < 0.001


def test_equal_methods_have_no_difference_and_p_of_one() -> None:
    one = method("a", 0.5, np.random.default_rng(2))
    found = difference(one, one, ["math"])
    assert (found.prompts.value, found.prompts.low, found.prompts.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert not beyond_prompts(found)


def test_the_mean_of_several_scores_weighs_them_equally_however_many_prompts_they_have() -> None:
    few = {"1": 1.0}
    many = {str(uid): 0.0 for uid in range(50)}
    one = Method("one", {"a": {0: 1.0}, "b": {0: 0.0}}, {"a": {0: few}, "b": {0: many}})
    none = Method("none", {"a": {0: 0.0}, "b": {0: 0.0}}, {"a": {0: {"1": 0.0}}, "b": {0: many}})
    assert difference(one, none, ["a", "b"]).prompts.value == pytest.approx(0.5)


def test_without_prompts_the_seeds_alone_speak() -> None:
    one = Method("one", {"math": {0: 0.5, 1: 0.6, 2: 0.7}}, {})
    other = Method("other", {"math": {0: 0.4, 1: 0.5, 2: 0.6}}, {})
    found = difference(one, other, ["math"])
    assert (found.p, beyond_prompts(found), found.beyond_seeds) == (None, False, True)
    assert found.seeds.value == pytest.approx(0.1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
