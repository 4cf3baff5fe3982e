"""Score matrices of several seeds as one."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest

from omnithink_pl.report.mean_matrix import mean_matrix
from omnithink_pl.transfer import ScoreMatrix, TaskScore


def matrix(value: float, label: str = "base") -> ScoreMatrix:
    return ScoreMatrix().add(label, {"math": TaskScore(value, 0, 1, value / 2, 0, 1, 128, 2)})


def test_means_and_intervals_are_those_over_seeds() -> None:
    values = [0.5, 0.6, 0.55, 0.4, 0.45]
    score = mean_matrix([matrix(value) for value in values]).rows[0]["math"]
    reach = 2.776445 * stdev(values) / 5**0.5  # Student's quantile for 4 degrees of freedom
    assert (score.sampled, score.sampled_low) == (pytest.approx(fmean(values)), pytest.approx(fmean(values) - reach))
    assert (score.greedy, score.greedy_high) == (pytest.approx(0.25), pytest.approx(0.25 + reach / 2))


def test_an_interval_stays_among_the_scores() -> None:
    score = mean_matrix([matrix(0.0), matrix(0.5)]).rows[0]["math"]
    assert (score.sampled_low, score.sampled_high) == (0.0, 1.0)


def test_matrices_of_other_runs_are_refused() -> None:
    for matrices in ([], [matrix(0.5), matrix(0.5, "other")]):
        with pytest.raises(ValueError, match="the same rows, one at least"):
            mean_matrix(matrices)
