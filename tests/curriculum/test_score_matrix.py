"""Forgetting and backward transfer, on matrices worked out by hand."""

from __future__ import annotations

import json
from dataclasses import astuple
from math import isnan, nan

import numpy as np
import pytest

from omnithink_pl.curriculum.score_matrix import (
    Estimate,
    ScoreMatrix,
    TaskScore,
    backward_transfer,
    changes,
    difference,
    forgetting,
    mean,
    mean_estimate,
    mean_scores,
)

STAGES = [["code"], ["math"], ["qa"]]
SAMPLED = [(0.2, 0.4, 0.5), (0.6, 0.3, 0.5), (0.5, 0.7, 0.4), (0.3, 0.6, 0.9)]


def score(sampled: float) -> TaskScore:
    return TaskScore(sampled, max(0.0, sampled - 0.1), min(1.0, sampled + 0.1), 0.5, 0.4, 0.6, 50, 4)


def matrix(rows: int = 4) -> ScoreMatrix:
    built = ScoreMatrix()
    for label, sampled in list(zip(["base", "1 code", "2 math", "3 qa"], SAMPLED, strict=True))[:rows]:
        built = built.add(label, dict(zip(["code", "math", "qa"], map(score, sampled), strict=True)))
    return built


def test_forgetting_is_base_minus_after_positive_when_forgotten() -> None:
    assert forgetting(matrix()) == pytest.approx({"code": -0.1, "math": -0.2, "qa": -0.4})
    assert forgetting(matrix(2)) == pytest.approx({"code": -0.4, "math": 0.1, "qa": 0.0})
    assert forgetting(matrix(1)) == {}


@pytest.mark.parametrize(
    ("built", "stages", "expected"),
    [
        (matrix(), STAGES, {"code": 0.3 - 0.6, "math": 0.6 - 0.7}),
        (matrix(3), STAGES, {"code": 0.5 - 0.6}),  # in the middle of a curriculum
        (matrix(2), STAGES, {}),
        (matrix(1), STAGES, {}),
        (ScoreMatrix(), STAGES, {}),
        (matrix(), [["code", "math"], ["code"], ["qa"]], {"code": 0.3 - 0.5, "math": 0.6 - 0.3}),  # code twice
        (matrix(), [["code"], ["math"], ["code"]], {"math": 0.6 - 0.7}),
    ],
)
def test_backward_transfer_is_last_minus_latest_own_stage_for_tasks_trained_before_the_last_that_ended(
    built: ScoreMatrix, stages: list[list[str]], expected: dict[str, float]
) -> None:
    assert backward_transfer(built, stages) == pytest.approx(expected)


def test_a_difference_adds_the_distances_to_the_ends_in_squares() -> None:
    found = difference(Estimate(0.5, 0.46, 0.53), Estimate(0.7, 0.66, 0.73))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2 - 0.05, 0.2 + 0.05))
    assert changes(matrix())["qa"].value == pytest.approx(0.4)
    # Newcombe 1998, table II, row (a), method 10: 56/70 - 48/80 has the interval 0.0524 to 0.3339.
    found = difference(Estimate(48 / 80, 0.4904, 0.7000), Estimate(56 / 70, 0.6918, 0.8771))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-4)


def test_means_follow_the_order_of_row_0() -> None:
    built = matrix().add("4 joint", {"qa": score(0.3), "code": score(0.1), "math": score(0.2)})
    assert built.tasks == ["code", "math", "qa"]
    assert [found.value for found in mean_scores(built)] == pytest.approx([1.1 / 3, 1.4 / 3, 1.6 / 3, 0.6, 0.2])


def test_the_interval_of_a_mean_over_tasks_holds_it_as_often_as_it_says() -> None:
    deviations = np.array([0.01, 0.02, 0.03, 0.04])
    draws = np.random.default_rng(0).normal(0.5, deviations, (20_000, 4))
    inside = 0
    for row in draws.tolist():
        ends = zip(row, 1.96 * deviations, strict=True)
        found = mean_estimate({f"task {i}": Estimate(v, v - half, v + half) for i, (v, half) in enumerate(ends)})
        inside += found.low <= 0.5 <= found.high
    assert inside / len(draws) == pytest.approx(0.95, abs=0.006)
    assert not mean_estimate({"a": Estimate(0.5), "b": Estimate(0.5, 0.4, 0.6)}).known


def test_the_change_of_a_mean_is_the_mean_of_the_changes() -> None:
    before = {"a": Estimate(0.2, 0.1, 0.4), "b": Estimate(0.0, 0.0, 0.1)}
    after = {"a": Estimate(0.5, 0.3, 0.6), "b": Estimate(0.1, 0.05, 0.3)}
    of_means = difference(mean_estimate(before), mean_estimate(after))
    of_changes = mean_estimate({task: difference(before[task], after[task]) for task in before})
    assert astuple(of_means) == pytest.approx(astuple(of_changes))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        matrix(1).add("base", matrix(1).rows[0])
    with pytest.raises(ValueError, match=r"\['code'\], row 0 has \['code', 'math', 'qa'\]"):
        matrix(1).add("1 code", {"code": score(0.5)})
    with pytest.raises(ValueError, match="no task"):
        mean({})
    with pytest.raises(ValueError, match="3 rows after the base, but there are 2 stages"):
        backward_transfer(matrix(), STAGES[:2])


def test_what_was_not_measured_has_no_change_and_survives_json() -> None:
    unknown = TaskScore(nan, nan, nan, nan, nan, nan, 10, 2, failed=1.0)
    made = ScoreMatrix().add("base", {"a": score(0.4), "b": score(0.5)}).add("1 a", {"a": score(0.6), "b": unknown})
    assert ScoreMatrix.from_dict(ScoreMatrix().to_dict()) == ScoreMatrix()
    again = ScoreMatrix.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert not again.rows[1]["b"].measured
    assert (again.labels, again.rows[0], again.rows[1]["a"]) == (made.labels, made.rows[0], score(0.6))
    assert forgetting(made)["a"] == pytest.approx(-0.2)
    assert isnan(forgetting(made)["b"])
    assert isnan(mean_scores(made)[1].value)
    assert not mean_scores(made)[1].known
    assert not changes(made)["b"].known
