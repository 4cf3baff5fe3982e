"""Stages as data."""

from __future__ import annotations

import pytest

from omnithink_pl.curriculum.stages import Stage, StageRun, check_stages, trained_tasks, with_lengths, with_replay
from omnithink_pl.errors import BadInput

STAGES = [Stage({"code": 1}, 2), Stage({"math": 1, "code": 0.1}, 3), Stage({"qa": 1}, 1)]


def test_the_place_of_a_stage_follows_from_the_plan() -> None:
    runs = [StageRun(tuple(STAGES), number) for number in range(4)]
    assert [(run.name, run.first_step, run.end_step) for run in runs] == [
        ("base", 0, 0),
        ("code", 0, 2),
        ("math+code", 2, 5),
        ("qa", 5, 6),
    ]
    assert [run.is_last for run in runs] == [False, False, False, True]
    assert {run.total_steps for run in runs} == {6}


def test_tasks_that_are_trained_have_a_positive_weight_somewhere() -> None:
    stages = [Stage({"qa": 1, "code": 0}, 2), Stage({"math": 1}, 1, replay={"code": 0.5})]
    assert trained_tasks(stages) == trained_tasks([vars(stage) for stage in stages]) == ["qa", "code", "math"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], r"curriculum\.stages is empty"),
        ([Stage({}, 3)], r"curriculum\.stages\[0\]\.tasks is empty; choose from \['code', 'math'\]"),
        (
            [Stage({"code": 1}, 1), Stage({"poetry": 1}, 3)],
            r"stages\[1\]\.tasks: unknown task 'poetry'; choose from",
        ),
        ([Stage({"code": -1}, 3)], r"stages\[0\]\.tasks\.code: weight -1 is negative"),
        ([Stage({"code": 0}, 3)], r"stages\[0\]\.tasks: all weights are 0"),
        ([Stage({"code": 1}, 0)], r"stages\[0\]\.steps is 0; a stage has at least one step.*curriculum\.steps"),
    ],
)
def test_stages_that_cannot_run_are_refused_by_name(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_stages(stages, ["math", "code"])


def test_replay_gives_earlier_tasks_their_share_of_a_batch() -> None:
    first, second, third = with_replay(
        [Stage({"code": 1}, 2), Stage({"math": 2}, 3), Stage({"qa": 1, "code": 1}, 1)], 0.2
    )
    assert first.mixture == {"code": 1}
    assert second.mixture == {"code": 0.5, "math": 2}
    assert third.replay == {"math": 0.5}, "what the stage trains is not replayed"
    assert (second.name, third.name) == ("math", "qa+code")
    for stage in (second, third):
        assert sum(stage.replay.values()) / sum(stage.mixture.values()) == pytest.approx(0.2)


def test_a_stage_that_names_its_replay_keeps_it() -> None:
    stages = [Stage({"code": 1}, 2), Stage({"math": 1}, 3, {"qa": 0.3})]
    assert with_replay(stages, 0.5) == stages
    assert with_replay(stages, 0.0) == stages


def test_a_stage_without_steps_is_as_long_as_its_tasks_together() -> None:
    stages = [Stage({"code": 1.0}), Stage({"math": 2.0, "code": 1.0}), Stage({"code": 1.0}, 7), Stage({"qa": 1.0})]
    found = with_lengths(stages, {"code": 50, "math": 30})
    assert [stage.steps for stage in found] == [50, 80, 7, 0]
    with pytest.raises(BadInput, match=r"stages\[3\]\.steps is 0"):
        check_stages(found, ("code", "math", "qa"))
    assert [stage.steps for stage in with_lengths(stages, 4)] == [4, 8, 7, 4], "one number for all tasks"
