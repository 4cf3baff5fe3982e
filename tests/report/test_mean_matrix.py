"""Score matrices of several seeds as one."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest

from omnithink_pl.curriculum.score_matrix import ScoreMatrix
from omnithink_pl.report.estimates import mean_losses, mean_rows
from tests.report.matrices import matrix

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
