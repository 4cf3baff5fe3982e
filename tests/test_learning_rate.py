"""The learning rate over a stage."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from omnithink_pl.curriculum.schedulers import LearningRateSchedule
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.errors import BadInput

STAGES = [Stage({"code": 1}, 10), Stage({"math": 1}, 6)]


def factors(schedule: LearningRateSchedule, stages: list[Stage] = STAGES) -> list[float]:
    return [schedule.factor(stages, step) for step in range(sum(stage.steps for stage in stages))]


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
