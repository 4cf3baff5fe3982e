"""The mixture of tasks that each sampler means, and what is drawn of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from omnithink_pl.data.samplers import (
    OneTaskSampler,
    ProportionalSampler,
    StratifiedTaskSampler,
    TaskSampler,
    UniformSampler,
)
from omnithink_pl.errors import BadInput

WEIGHTS = {"a": 1.0, "b": 2.5, "c": 0.0, "d": 0.7}
SIZES = {"a": 100, "b": 400, "d": 25}

MEANT = [
    (StratifiedTaskSampler(), {"a": 1.0, "b": 2.5, "d": 0.7}),
    (UniformSampler(), {"a": 1.0, "b": 1.0, "d": 1.0}),
    (ProportionalSampler(), {"a": 100.0, "b": 1000.0, "d": 17.5}),
    (ProportionalSampler(0.5), {"a": 10.0, "b": 50.0, "d": 3.5}),
]


@pytest.mark.parametrize(("sampler", "meant"), MEANT, ids=lambda value: type(value).__name__)
def test_what_is_drawn_is_what_is_meant_rounded_and_right_on_average(
    sampler: TaskSampler, meant: dict[str, float]
) -> None:
    expected = {task: 8 * weight / sum(meant.values()) for task, weight in meant.items()}
    totals: Counter[str] = Counter()
    for step in range(2000):
        counts = Counter(sampler.draw(WEIGHTS, SIZES, 8, np.random.default_rng((7, step))))
        assert counts.keys() <= expected.keys(), "a task without weight is not drawn"
        assert all(abs(counts[task] - expected[task]) < 1 for task in expected)
        totals += counts
    assert {task: totals[task] / 2000 for task in expected} == pytest.approx(expected, abs=0.05)


def test_one_task_fills_a_whole_batch_as_often_as_its_weight_says() -> None:
    sampler, drawn = OneTaskSampler(), Counter[str]()
    for step in range(4000):
        batch = sampler.draw(WEIGHTS, SIZES, 8, np.random.default_rng((7, step)))
        assert len(batch) == 8
        (task,) = set(batch)
        drawn[task] += 1
    shares = {task: weight / 4.2 for task, weight in WEIGHTS.items() if weight}
    assert {task: drawn[task] / 4000 for task in drawn} == pytest.approx(shares, abs=0.03)  # 4 standard errors


@pytest.mark.parametrize("exponent", [-0.1, 1.5])
def test_an_exponent_that_makes_no_sense_is_refused(exponent: float) -> None:
    with pytest.raises(BadInput, match=r"data\.task_sampler\.init_args\.exponent is"):
        ProportionalSampler(exponent)
