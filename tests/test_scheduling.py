"""Choosing the next stage from what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping

from omnithink_pl.curriculum.schedulers import LeastForgettable
from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.curriculum.stages import Stage

CODE, MATH, QA, WRITING = (Stage({task: 1.0}, 5) for task in ("code", "math", "qa", "writing"))


def matrix(*rows: Mapping[str, float]) -> ScoreMatrix:
    found = ScoreMatrix()
    for number, row in enumerate(rows):
        found = found.add(str(number), {t: TaskScore(v, v, v, v, v, v, 10, 2) for t, v in row.items()})
    return found


BASE = {"code": 0.3, "math": 0.4, "qa": 0.5, "writing": 0.6}
AFTER_CODE = {"code": 0.8, "math": 0.3, "qa": 0.55, "writing": 0.4}


def test_what_was_harmed_least_comes_next() -> None:
    measured = matrix(BASE, AFTER_CODE)
    assert LeastForgettable().choose([CODE], [MATH, QA, WRITING], measured) == 1
    assert LeastForgettable().choose([CODE], [WRITING, MATH], measured) == 1


def test_of_equals_the_list_decides() -> None:
    assert LeastForgettable().choose([CODE], [WRITING, MATH, QA], matrix(BASE, BASE)) == 0


def test_harm_is_averaged_over_the_stages_that_did_not_train_the_task() -> None:
    after_qa = {"code": 0.1, "math": 0.55, "qa": 0.9, "writing": 0.45}
    # math: -0.1 then +0.25; writing: -0.2 then +0.05.
    assert LeastForgettable().choose([CODE, QA], [WRITING, MATH], matrix(BASE, AFTER_CODE, after_qa)) == 1
    # Had the second stage replayed math, only the first would count for it: -0.1 against writing's -0.075.
    replaying = Stage({"qa": 1.0}, 5, {"math": 0.1})
    assert LeastForgettable().choose([CODE, replaying], [MATH, WRITING], matrix(BASE, AFTER_CODE, after_qa)) == 1


def test_a_mixed_stage_counts_as_the_mean_of_its_tasks() -> None:
    mixed = Stage({"qa": 1.0, "writing": 1.0}, 5)
    assert LeastForgettable().choose([CODE], [mixed, MATH], matrix(BASE, AFTER_CODE)) == 0


def test_what_could_not_be_scored_counts_for_nothing() -> None:
    unscored = AFTER_CODE | {"writing": math.nan}
    assert LeastForgettable().choose([CODE], [MATH, WRITING], matrix(BASE, unscored)) == 1, "math was harmed"
