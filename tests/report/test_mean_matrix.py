"""Score matrices of several seeds as one."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.report.study_figures import mean_forgetting, mean_loss, mean_matrix, row_means


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


def test_what_was_forgotten_is_paired_by_seed() -> None:
    """Seeds that differ much in both rows and lose the same have no interval to speak of."""
    runs = [matrix(start).add("1 code", matrix(start - 0.2).rows[0]) for start in (0.3, 0.5, 0.9)]
    found = mean_forgetting(runs)
    for name in ("math", "mean"):
        assert (found[name].value, found[name].low, found[name].high) == pytest.approx((0.2, 0.2, 0.2))
    assert mean_forgetting(runs, "greedy")["math"].value == pytest.approx(0.1)


def test_the_mean_over_the_tasks_has_the_interval_of_its_own_values() -> None:
    """Tasks that move against each other leave the mean where it was."""
    both = [matrix(0.5).rows[0]["math"], matrix(0.3).rows[0]["math"]]
    runs = [ScoreMatrix().add("base", {"code": one, "math": other}) for one, other in (both, both[::-1])]
    (found,) = row_means(runs)
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))


def test_what_was_lost_since_its_own_stage_leaves_out_the_last_stage() -> None:
    def rows(*values: tuple[float, float]) -> ScoreMatrix:
        made = ScoreMatrix()
        for label, (code, math) in zip(("base", "1 code", "2 math"), values, strict=True):
            scores = {"code": matrix(code).rows[0]["math"], "math": matrix(math).rows[0]["math"]}
            made = made.add(label, scores)
        return made

    runs = [rows((0.2, 0.3), (0.8, 0.3), (0.5, 0.7)), rows((0.3, 0.3), (0.7, 0.2), (0.3, 0.8))]
    found = mean_loss(runs, [["code"], ["math"]])
    assert {task: one.value for task, one in found.items()} == pytest.approx({"code": 0.35, "mean": 0.35})
    assert found["code"].high == pytest.approx(0.35 + 12.7062 * 0.05, abs=1e-4)
    assert mean_loss(runs, [["code", "math"], ["code", "math"]]) == {}
