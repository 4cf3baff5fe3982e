"""Intervals and p-values against what they promise, and against plain arithmetic."""

from __future__ import annotations

import random
from statistics import fmean, pvariance, quantiles, stdev

import numpy as np
import pytest

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.report.estimates import (
    Difference,
    difference,
    holm,
    mean_losses,
    mean_rows,
    mean_score,
    over_seeds,
)
from omnithink_pl.report.results import Method
from tests.report.matrices import matrix


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


# The mean of a domain's benchmarks: resampled within each of them, against plain loops and the normal law.

SIZES = {"math/aime24": 12, "math/math500": 90, "code/humaneval": 40}
DOMAINS = ["math/*", "code/*"]


def domain_method(name: str, seed: int, shift: float = 0.0) -> Method:
    """Benchmarks of very different size and noise, and the plain means of each domain's."""
    generator = np.random.default_rng(seed)
    prompts = {
        score: {s: {str(uid): float(v) for uid, v in enumerate(generator.random(n) < 0.3 + shift)} for s in range(1)}
        for score, n in SIZES.items()
    }
    scores = {score: {s: fmean(own.values()) for s, own in by_seed.items()} for score, by_seed in prompts.items()}
    for domain in ("math", "code"):
        own = [by_seed for score, by_seed in scores.items() if score.startswith(domain)]
        scores |= {f"{domain}/*": {0: fmean(by_seed[0] for by_seed in own)}}
    return Method(name, scores, prompts)


ONE, OTHER = domain_method("one", 0, shift=0.2), domain_method("other", 1)


def paired_differences(score: str) -> list[float]:
    ours, theirs = ONE.prompts[score][0], OTHER.prompts[score][0]
    return [ours[uid] - theirs[uid] for uid in ours]


def nested(columns: dict[str, list[float]]) -> float:
    """The mean over domains of the mean over benchmarks of the mean over prompts."""
    by_domain: dict[str, list[float]] = {}
    for score, values in columns.items():
        by_domain.setdefault(score.partition("/")[0], []).append(fmean(values))
    return fmean(fmean(own) for own in by_domain.values())


def test_a_difference_of_domain_means_is_that_of_a_plain_nested_bootstrap() -> None:
    columns = {score: paired_differences(score) for score in SIZES}
    chance = random.Random(0)
    drawn = [nested({s: chance.choices(own, k=len(own)) for s, own in columns.items()}) for _ in range(1500)]
    ends = quantiles(drawn, n=40)
    found = difference(ONE, OTHER, DOMAINS).prompts
    assert found.value == pytest.approx(nested(columns))
    assert (found.low, found.high) == pytest.approx((ends[0], ends[-1]), abs=0.012)


def test_prompts_are_drawn_within_each_benchmark_however_many_it_has() -> None:
    """The variance of a stratified mean: pooling all prompts of a domain would give the small benchmark no weight."""
    found = difference(ONE, OTHER, ["math/*"]).prompts
    variance = sum(pvariance(paired_differences(s)) / SIZES[s] / 4 for s in SIZES if s.startswith("math"))
    assert found.high - found.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.04)
    assert found == difference(ONE, OTHER, ["math/aime24", "math/math500"]).prompts


def test_one_seed_has_an_interval_over_the_prompts_of_a_domain() -> None:
    found = mean_score(ONE, ["math/*"])
    own = [list(ONE.prompts[score][0].values()) for score in SIZES if score.startswith("math")]
    reach = 1.96 * sum(pvariance(values) / len(values) / 4 for values in own) ** 0.5
    assert found.value == pytest.approx(fmean(map(fmean, own)))
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach), abs=0.02)


def test_means_of_other_benchmarks_have_no_interval_over_prompts() -> None:
    fewer = Method("fewer", {k: v for k, v in OTHER.scores.items() if k != "math/aime24"}, OTHER.prompts)
    assert fewer.components("math/*") == ["math/*"]  # the mean is not that of the benchmarks that are left
    found = difference(ONE, fewer, ["math/*"])
    assert (found.prompts.known, found.p) == (False, None)
    assert found.prompts.value == pytest.approx(ONE.scores["math/*"][0] - OTHER.scores["math/*"][0])


# Score matrices of several seeds as one.

TRAINED = [["code"], ["math"]]


def test_means_and_intervals_are_those_over_seeds() -> None:
    values = [0.5, 0.6, 0.55, 0.4, 0.45]
    found = mean_rows([matrix(base=[value, 0.5]) for value in values])["base"]["code"]
    reach = 2.776445 * stdev(values) / 5**0.5  # Student's quantile for 4 degrees of freedom
    assert (found.value, found.low) == (pytest.approx(fmean(values)), pytest.approx(fmean(values) - reach))
    cut = mean_rows([matrix(base=[0.0, 0.5]), matrix(base=[0.5, 0.5])])["base"]["code"]
    assert (cut.low, cut.high) == (0.0, 1.0)


def test_the_mean_over_the_tasks_has_the_interval_of_its_own_values() -> None:
    """Tasks that move against each other leave the mean where it was."""
    found = mean_rows([matrix(base=[0.5, 0.3]), matrix(base=[0.3, 0.5])])["base"]["mean"]
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))


def test_a_stage_that_is_repeated_has_a_row_of_its_own() -> None:
    rows = mean_rows([matrix(base=[0.1, 0.1], s1_code=[0.2, 0.2], s2_code=[0.3, 0.3])] * 2)
    assert list(rows) == ["base", "after code", "after 2 code"]


@pytest.mark.parametrize("matrices", [[], [matrix(base=[0.5, 0.5]), ScoreMatrix()]])
def test_matrices_of_other_runs_are_refused(matrices: list[ScoreMatrix]) -> None:
    with pytest.raises(ValueError, match="the same rows, one at least"):
        mean_rows(matrices)


def test_what_was_forgotten_is_paired_by_seed() -> None:
    """Seeds that differ much in both rows and lose the same have no interval to speak of."""
    runs = [matrix(base=[start, start], s1_code=[start - 0.2, start]) for start in (0.3, 0.5, 0.9)]
    lost = mean_losses(runs, TRAINED)
    assert list(lost) == ["forgotten"]  # there is no stage after the first
    for name, expected in (("code", 0.2), ("math", 0.0), ("mean", 0.1)):
        found = lost["forgotten"][name]
        assert (found.value, found.low, found.high) == pytest.approx((expected, expected, expected))


def test_what_was_lost_since_its_own_stage_leaves_out_the_last_stage() -> None:
    runs = [
        matrix(base=[0.2, 0.3], s1_code=[0.8, 0.3], s2_math=[0.5, 0.7]),
        matrix(base=[0.3, 0.3], s1_code=[0.7, 0.2], s2_math=[0.3, 0.8]),
    ]
    found = mean_losses(runs, TRAINED)["lost since its stage"]
    assert {task: one.value for task, one in found.items()} == pytest.approx({"code": 0.35, "mean": 0.35})
    assert found["code"].high == pytest.approx(0.35 + 12.7062 * 0.05, abs=1e-4)
