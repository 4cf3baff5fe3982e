"""Intervals against published values, an independent formula, and their own promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest

from omnithink_pl.evaluation.scorer import Interval, mean_interval, wilson


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_one_zero_or_one_a_prompt_is_wilsons_interval(successes: int, count: int, low: float, high: float) -> None:
    found = mean_interval([[1.0]] * successes + [[0.0]] * (count - successes))
    assert (found.mean, found.low, found.high) == pytest.approx((successes / count, low, high), abs=5e-5)


def test_wilsons_ends_solve_the_score_equation() -> None:
    for mean, draws in [(0.3, 40.0), (0.5, 7.5), (0.97, 120.0)]:
        for end in wilson(mean, draws):
            assert abs(mean - end) / (end * (1 - end) / draws) ** 0.5 == pytest.approx(1.959964, abs=1e-5)


def test_copies_add_no_certainty_and_independent_samples_no_more_than_their_number() -> None:
    single = [[1.0], [0.0], [0.0], [1.0], [1.0], [0.0], [0.0]]
    copied, once = mean_interval([scores * 8 for scores in single]), mean_interval(single)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    mixed = mean_interval([[1.0, 0.0]] * 30 + [[1.0, 1.0]] * 15 + [[0.0, 0.0]] * 15)
    assert (mixed.low, mixed.high) == pytest.approx(wilson(0.5, 120.0))
    nearly_equal = mean_interval([[0.5], [0.5], [0.5001]])
    assert nearly_equal.high - nearly_equal.low > 0.7


def test_all_alike_keeps_a_width() -> None:
    found = mean_interval([[1.0, 1.0]] * 20)
    assert found.mean == found.high == 1.0
    assert found.low == pytest.approx(1 - 0.1611, abs=1e-4)


def test_the_mean_is_over_prompts_with_a_score_and_none_at_all_is_refused() -> None:
    assert mean_interval([[1.0, 1.0, 1.0, 0.0], [], [0.0]]).mean == pytest.approx(0.375)
    with pytest.raises(ValueError, match="no completion has a score"):
        mean_interval([[], []])


def test_the_interval_of_clustered_samples_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    trials, prompts, samples, covered = 1500, 60, 4, 0
    for chances in rng.beta(0.6, 0.9, size=(trials, prompts)):
        found = mean_interval(rng.binomial(1, chances[:, None], size=(prompts, samples)).astype(float).tolist())
        covered += found.low <= 0.4 <= found.high
    assert 0.93 <= covered / trials <= 0.97


def test_the_interval_of_a_mean_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    suites, trials, covered = {0.15: 30, 0.6: 40, 0.8: 300}, 1000, 0  # chance of a prompt: prompts
    for _ in range(trials):
        found = Interval.average([mean_interval((rng.random((n, 1)) < p).tolist()) for p, n in suites.items()])
        covered += found.low <= sum(suites) / 3 <= found.high
    assert 0.93 <= covered / trials <= 0.97
