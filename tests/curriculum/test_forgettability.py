"""Both means of transfer against plain loops, and an order that says what its intervals carry."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from omnithink_pl.curriculum.forgettability import does_to_others, others_do_to, rank_by_forgettability

TASKS = ("code", "math", "qa")


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_a_task_is_no_part_of_its_own_means(tasks: int) -> None:
    effects = np.random.default_rng(tasks).normal(size=(4, tasks, tasks))
    for draw, one in enumerate(effects):
        for task in range(tasks):
            others = [other for other in range(tasks) if other != task]
            assert does_to_others(effects)[draw, task] == pytest.approx(fmean(one[task][j] for j in others))
            assert others_do_to(effects)[draw, task] == pytest.approx(fmean(one[i][task] for i in others))


def test_the_victims_order_the_tasks_whatever_they_do_to_others() -> None:
    # Training code costs the others most, and they cost it nothing: it comes first.
    effects = np.array([[0.5, -0.1, -0.3], [0.0, 0.4, -0.1], [0.0, -0.1, 0.6]])
    found = rank_by_forgettability(TASKS, effects, effects[None])
    assert found.order == TASKS
    assert [one.value for one in found.others_do_to] == pytest.approx([0.0, -0.1, -0.2])
    assert [one.value for one in found.does_to_others] == pytest.approx([-0.2, -0.05, -0.05])
    assert [one.value for one in found.ahead] == pytest.approx([0.1, 0.1])
    assert (found.undecided, found.agreement) == ([], 1.0)


def test_neighbours_whose_samples_change_places_are_named() -> None:
    """Code is far ahead; math and QA are a point apart under noise of ten."""
    effects = np.array([[0.5, -0.30, -0.31], [0.0, 0.4, -0.31], [0.0, -0.30, 0.6]])
    drawn = effects + np.random.default_rng(0).normal(scale=0.05, size=(500, 3, 3))
    found = rank_by_forgettability(TASKS, effects, drawn)
    assert found.order == TASKS
    assert found.undecided == [("math", "qa")]
    assert 0.4 < found.agreement < 0.8
