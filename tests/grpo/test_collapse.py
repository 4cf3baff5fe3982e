"""The share of the gradient that teaches the form alone, and the warning about it."""

from __future__ import annotations

from itertools import count

import pytest

from omnithink_pl.grpo.advantage import GroupAdvantage, GroupRecord, ScoredGroup, phantom_gradient
from omnithink_pl.grpo.collapse import WINDOW, CollapseAlarm
from omnithink_pl.grpo.metrics import rollout_metrics
from omnithink_pl.types import Completion, Example, Group, Score
from tests.scores import FAILED, UNDEFINED, score

FORM = [score(0.0), score(0.0, layout=0.0, tags=0.5), score(UNDEFINED, layout=0.0, tags=0.0)]
SOLVED = [score(1.0), score(0.0), score(0.0)]
EQUAL = [score(0.0)] * 3
_numbers = count()


def record(scores: list[Score], task: str = "math", guard: bool = False, lengths: tuple[int, ...] = ()) -> GroupRecord:
    completions = tuple(Completion((1,) * n, (-1.0,) * n, "", "stop") for n in lengths or (1,) * len(scores))
    group = Group(Example(task, f"row-{next(_numbers)}", "?", "!"), (1, 2), completions)
    return ScoredGroup(group, tuple(scores), tuple(GroupAdvantage(phantom_guard=guard)(scores))).record()


def size(rewards: list[float]) -> float:
    """Sum of absolute advantages, by the formula."""
    mean = sum(rewards) / len(rewards)
    deviation = (sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1)) ** 0.5
    return sum(abs(r - mean) for r in rewards) / deviation


def test_the_share_is_that_of_the_absolute_advantages_and_not_of_the_groups() -> None:
    form, solved = size([0.2, 0.05, 0.0]), size([1.2, 0.2, 0.2])
    groups = [record(FORM), record(SOLVED), record(SOLVED), record(EQUAL)]
    assert phantom_gradient(groups) == pytest.approx(form / (form + 2 * solved))
    assert phantom_gradient([record(FORM)]) == 1.0
    assert phantom_gradient([record(SOLVED)]) == phantom_gradient([record(EQUAL)]) == phantom_gradient([]) == 0.0
    assert phantom_gradient([record(FORM, guard=True), record(SOLVED, guard=True)]) == 0.0


def test_failed_completions_are_no_difference_in_the_task() -> None:
    assert phantom_gradient([record([score(1.0), score(FAILED), score(1.0, layout=0.0)])]) == 1.0


def test_the_share_and_the_length_in_form_are_reported_for_each_task() -> None:
    metrics = rollout_metrics([record(FORM, lengths=(9, 5, 2)), record(SOLVED, "qa", lengths=(4, 6, 8))])
    assert (metrics["train/math/phantom_gradient"], metrics["train/qa/phantom_gradient"]) == (1.0, 0.0)
    assert (metrics["train/math/length_in_form"], metrics["train/length_in_form"]) == (9.0, (9 + 4 + 6 + 8) / 4)
    assert "train/length_in_form" not in rollout_metrics([record(FORM[1:])])


def warned(alarm: CollapseAlarm, steps: int, *groups: GroupRecord) -> list[int]:
    return [step for step in range(steps) if alarm.warning(groups)]


def test_a_collapse_is_warned_of_once_in_a_stage_by_task_and_cure() -> None:
    alarm = CollapseAlarm()
    assert warned(alarm, 3 * WINDOW, record(FORM), record(SOLVED, "qa")) == [WINDOW - 1]
    alarm.begin_stage()
    found = [alarm.warning([record(FORM), record(FORM), record(SOLVED)]) for _ in range(WINDOW)]
    assert found[:-1] == [""] * (WINDOW - 1)
    assert "of the gradient of math" in found[-1]
    first, _, other = found[-1].partition("configs/ablations/dynamic_sampling.yaml")
    assert "--model.advantage.scale=none" in first
    assert other


def test_not_to_divide_is_no_cure_where_nothing_is_divided() -> None:
    alarm = CollapseAlarm(divided=False)
    said = [alarm.warning([record(FORM)]) for _ in range(WINDOW)][-1]
    assert said
    assert "scale=none" not in said


def test_a_policy_that_learns_its_tasks_or_nothing_is_not_warned_of() -> None:
    healthy = [record(FORM), record(SOLVED), record(SOLVED)]
    assert warned(CollapseAlarm(), 3 * WINDOW, *healthy) == []
    assert warned(CollapseAlarm(), 3 * WINDOW, record(EQUAL)) == []
    assert warned(CollapseAlarm(), 3 * WINDOW, record(FORM, guard=True)) == []
    assert warned(CollapseAlarm(), 3 * WINDOW) == []


def test_a_task_that_shares_its_steps_is_watched_over_steps_of_its_own() -> None:
    alarm = CollapseAlarm()
    turns = [record(FORM) if step % 2 else record(SOLVED, "qa") for step in range(2 * WINDOW)]
    assert [bool(alarm.warning([turn])) for turn in turns] == [False] * (2 * WINDOW - 1) + [True]
