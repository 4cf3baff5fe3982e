"""The next stage, the early end of a stage, the learning rate within it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from omnithink_pl.curriculum.schedulers import LearningRateSchedule, LeastForgettable, best_index, has_plateaued
from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore
from omnithink_pl.curriculum.stages import Stage, StageRun
from omnithink_pl.errors import BadInput

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


def test_before_anything_is_measured_the_prior_decides_and_afterwards_the_run() -> None:
    prior = {"code": 0.005, "math": -0.005, "writing": -0.05}
    assert LeastForgettable(prior).choose([], [WRITING, MATH, CODE], matrix(BASE)) == 2
    assert LeastForgettable().choose([], [WRITING, MATH, CODE], matrix(BASE)) == 0
    assert LeastForgettable(prior).choose([CODE], [WRITING, QA, MATH], matrix(BASE, AFTER_CODE)) == 1


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


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.1], False),
        ([0.1, 0.1], False),
        ([0.1, 0.1, 0.1], True),
        ([0.1, 0.3, 0.2, 0.25], True),
        ([0.1, 0.3, 0.2, 0.31], False),
        ([0.3, 0.2, 0.4, 0.1], False),
        ([], False),
    ],
)
def test_it_ends_after_so_many_scores_without_a_better_one(scores: list[float], ends: bool) -> None:
    assert has_plateaued(scores, patience=2) is ends


def test_a_rise_in_steps_too_small_to_count_ends_it_but_together_they_count() -> None:
    assert has_plateaued([0.10, 0.11, 0.12], patience=2, min_delta=0.03)
    assert not has_plateaued([0.10, 0.12, 0.14], patience=2, min_delta=0.03)


def test_the_best_is_the_first_that_was_not_bettered() -> None:
    assert best_index([0.1, 0.4, 0.4, 0.3]) == 1
    assert best_index([0.1, 0.4, 0.45, 0.3], min_delta=0.1) == 1


STAGES = [Stage({"code": 1}, 10), Stage({"math": 1}, 6)]


def factors(schedule: LearningRateSchedule, stages: Sequence[Stage] = STAGES) -> list[float]:
    runs = [StageRun(tuple(stages), number + 1) for number in range(len(stages))]
    return [schedule.factor(run, step) for run in runs for step in range(run.first_step, run.end_step)]


def test_without_settings_it_is_always_one() -> None:
    assert LearningRateSchedule().constant
    assert factors(LearningRateSchedule()) == [1.0] * 16


def test_warm_up_is_a_straight_line_from_the_first_step_of_each_stage() -> None:
    got = factors(LearningRateSchedule(warmup_steps=4))
    assert got == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 1]


def test_a_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert factors(LearningRateSchedule(decay="cosine", floor=0.1))[:10] == pytest.approx(expected)


def test_one_schedule_over_all_stages_does_not_restart() -> None:
    got = factors(LearningRateSchedule(decay="linear", restart=False, warmup_steps=6))
    assert got[6:] == pytest.approx([1 - p / 10 for p in range(10)])


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_every_stage_begins_anew_and_never_falls_below_the_floor(decay: str) -> None:
    got = factors(LearningRateSchedule(decay=decay, floor=0.2))  # type: ignore[arg-type]
    assert got[0] == got[10] == 1.0
    assert min(got) > 0.2
    assert math.isclose(got[13], 0.6)  # half of the second stage


def test_a_stage_shorter_than_its_warm_up_only_rises() -> None:
    assert factors(LearningRateSchedule(warmup_steps=20, decay="cosine"), [Stage({"qa": 1}, 3)]) == [0.05, 0.1, 0.15]


@pytest.mark.parametrize(("key", "value"), [("warmup_steps", -1), ("floor", 1.5)])
def test_settings_that_mean_nothing_are_named(key: str, value: float) -> None:
    with pytest.raises(BadInput, match=rf"learning_rate\.{key} is {value}"):
        LearningRateSchedule(**{key: value})
