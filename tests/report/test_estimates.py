"""Intervals and p-values against what they promise, and against plain arithmetic."""

from __future__ import annotations

import random
from statistics import fmean, pvariance, quantiles

import numpy as np
import pytest

from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix
from omnithink_pl.report.estimates import difference, holm, mean_losses, mean_rows, mean_score, over_seeds
from omnithink_pl.report.results import Method
from tests.report.matrices import matrix

Prompts = dict[str, float]


def ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def drawn(generator: np.random.Generator, chance: float, size: int) -> Prompts:
    """0/1 scores on prompts of equal difficulty."""
    return {str(uid): float(value) for uid, value in enumerate(generator.random(size) < chance)}


def method(**prompts: list[Prompts]) -> Method:
    """A method whose scores are the means of their prompts, by seed; two underscores stand for a slash."""
    by_score = {name.replace("__", "/"): dict(enumerate(by_seed)) for name, by_seed in prompts.items()}
    scores = {name: {s: fmean(own.values()) for s, own in by_seed.items()} for name, by_seed in by_score.items()}
    return Method("method", scores, by_score)


def test_students_interval_by_hand() -> None:
    # Mean 0.3, deviation 0.26458, quantile of t with 2 degrees of freedom 4.30265.
    reach = 4.30265 * 0.264575 / 3**0.5
    assert ends(over_seeds([0.1, 0.2, 0.6])) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach), abs=1e-4)
    assert not over_seeds([0.4]).known


def test_a_difference_that_is_there_is_found_and_one_that_is_not_rarely() -> None:
    generator = np.random.default_rng(1)
    false = 0
    for _ in range(60):
        base, better, equal = (method(math=[drawn(generator, c, 100) for _ in range(3)]) for c in (0.4, 0.7, 0.4))
        assert difference(better, base, ["math"], 500).prompts.low > 0.0
        found = difference(equal, base, ["math"], 500).prompts
        false += not found.low <= 0.0 <= found.high
    assert false <= 8


def test_prompts_are_paired() -> None:
    """Prompts differ much in difficulty, methods little: only pairing can tell them apart."""
    hard = {str(uid): uid / 100 for uid in range(100)}
    better = {uid: min(1.0, value + 0.02) for uid, value in hard.items()}
    found = difference(method(math=[better]), method(math=[hard]), ["math"])
    assert found.prompts.value == pytest.approx(0.02, abs=1e-3)
    assert found.prompts.low > 0
    assert found.p < 0.001


def test_equal_methods_have_no_difference_and_p_of_one() -> None:
    one = method(math=[drawn(np.random.default_rng(2), 0.5, 100)] * 3)
    found = difference(one, one, ["math"])
    assert (ends(found.prompts), found.p) == ((0.0, 0.0, 0.0), 1.0)


def test_the_mean_of_several_scores_weighs_them_equally_however_many_prompts_they_have() -> None:
    many = {str(uid): 0.0 for uid in range(50)}
    one, none = method(a=[{"1": 1.0}], b=[many]), method(a=[{"1": 0.0}], b=[many])
    assert difference(one, none, ["a", "b"]).prompts.value == pytest.approx(0.5)


def test_without_prompts_the_seeds_alone_speak() -> None:
    one = Method("one", {"math": {0: 0.5, 1: 0.6, 2: 0.7}}, {})
    other = Method("other", {"math": {0: 0.4, 1: 0.5, 2: 0.6}}, {})
    found = difference(one, other, ["math"])
    assert (found.p, found.prompts.known) == (None, False)
    assert ends(found.seeds) == pytest.approx((0.1, 0.1, 0.1))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (holm([0.9, 0.8]), holm([])) == ([1.0, 1.0], [])


# The mean of a domain's benchmarks: resampled within each of them, against plain loops and the normal law.

SIZES = {"math__aime24": 12, "math__math500": 90, "code__humaneval": 40}  # of very different size and noise
MATH = ["math/aime24", "math/math500"]


def domain_method(seed: int, chance: float) -> Method:
    generator = np.random.default_rng(seed)
    made = method(**{name: [drawn(generator, chance, size)] for name, size in SIZES.items()})
    means = {"math/*": {0: fmean(made.scores[name][0] for name in MATH)}, "code/*": made.scores["code/humaneval"]}
    return Method("method", {**made.scores, **means}, made.prompts)


ONE, OTHER = domain_method(0, 0.5), domain_method(1, 0.3)
PAIRED = {
    name: [ours - theirs for ours, theirs in zip(own[0].values(), OTHER.prompts[name][0].values(), strict=True)]
    for name, own in ONE.prompts.items()
}


def nested(columns: dict[str, list[float]]) -> float:
    """The mean over domains of the mean over benchmarks of the mean over prompts."""
    return fmean([fmean(fmean(columns[name]) for name in MATH), fmean(columns["code/humaneval"])])


def reach(columns: dict[str, list[float]]) -> float:
    """Half the interval of the stratified mean of math, by the normal law."""
    return 1.96 * sum(pvariance(columns[name]) / len(columns[name]) / 4 for name in MATH) ** 0.5


def test_a_difference_of_domain_means_is_that_of_a_plain_nested_bootstrap() -> None:
    chance = random.Random(0)
    resampled = [nested({s: chance.choices(own, k=len(own)) for s, own in PAIRED.items()}) for _ in range(1500)]
    low, *_, high = quantiles(resampled, n=40)
    found = difference(ONE, OTHER, ["math/*", "code/*"]).prompts
    assert found.value == pytest.approx(nested(PAIRED))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)


def test_prompts_are_drawn_within_each_benchmark_however_many_it_has() -> None:
    """Pooling all prompts of a domain would give the small benchmark no weight."""
    found = difference(ONE, OTHER, ["math/*"]).prompts
    assert found.high - found.low == pytest.approx(2 * reach(PAIRED), rel=0.04)
    assert found == difference(ONE, OTHER, MATH).prompts


def test_one_seed_has_an_interval_over_the_prompts_of_a_domain() -> None:
    own = {name: list(by_seed[0].values()) for name, by_seed in ONE.prompts.items()}
    value = fmean(fmean(own[name]) for name in MATH)
    assert ends(mean_score(ONE, ["math/*"])) == pytest.approx((value, value - reach(own), value + reach(own)), abs=0.02)


def test_means_of_other_benchmarks_have_no_interval_over_prompts() -> None:
    fewer = Method("fewer", {k: v for k, v in OTHER.scores.items() if k != "math/aime24"}, OTHER.prompts)
    assert fewer.components("math/*") == ["math/*"]  # the mean is not that of the remaining benchmarks
    found = difference(ONE, fewer, ["math/*"])
    assert (found.prompts.known, found.p) == (False, None)
    assert found.prompts.value == pytest.approx(ONE.scores["math/*"][0] - OTHER.scores["math/*"][0])


# Score matrices of several seeds as one.

TRAINED = [["code"], ["math"]]


def test_means_and_intervals_are_those_over_seeds_within_the_scale() -> None:
    rows = mean_rows([matrix(base=[0.5, 0.3]), matrix(base=[0.3, 0.5])])["base"]
    assert ends(rows["code"]) == pytest.approx((0.4, 0.0, 1.0))  # Student's quantile is 12.7
    assert ends(rows["mean"]) == pytest.approx((0.4, 0.4, 0.4))  # tasks that move against each other
    rows = mean_rows([matrix(base=[value, 0.5]) for value in (0.55, 0.5, 0.45)])["base"]
    assert rows["code"].low == pytest.approx(0.5 - 4.30265 * 0.05 / 3**0.5)


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
        assert ends(lost["forgotten"][name]) == pytest.approx((expected, expected, expected))


def test_what_was_lost_since_its_own_stage_leaves_out_the_last_stage() -> None:
    runs = [
        matrix(base=[0.2, 0.3], s1_code=[0.8, 0.3], s2_math=[0.5, 0.7]),
        matrix(base=[0.3, 0.3], s1_code=[0.7, 0.2], s2_math=[0.3, 0.8]),
    ]
    found = mean_losses(runs, TRAINED)["lost since its stage"]
    assert {task: one.value for task, one in found.items()} == pytest.approx({"code": 0.35, "mean": 0.35})
    assert found["code"].high == pytest.approx(0.35 + 12.7062 * 0.05, abs=1e-4)
