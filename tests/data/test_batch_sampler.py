"""The batches of a curriculum."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from omnithink_pl.curriculum import Stage
from omnithink_pl.data.batch_sampler import CurriculumBatchSampler
from omnithink_pl.data.task_sampler import StratifiedTaskSampler

INDICES = {"code": range(10), "math": range(10, 23)}
STAGES = [Stage({"code": 1}, 4), Stage({"code": 1, "math": 3}, 9)]


def sampler(seed: int = 0, **ranks: int) -> CurriculumBatchSampler:
    return CurriculumBatchSampler(STAGES, INDICES, 4, StratifiedTaskSampler(), seed, **ranks)


@pytest.mark.parametrize("start", [1, 4, 7, 13])
def test_a_resumed_sampler_sees_what_an_uninterrupted_one_would_have_seen(start: int) -> None:
    resumed = sampler()
    resumed.start = start
    assert list(resumed) == list(sampler())[start:]
    assert len(resumed) == 13


def test_batches_are_a_function_of_the_seed() -> None:
    assert list(sampler(1)) == list(sampler(1)) != list(sampler(2))


def test_every_row_of_a_task_is_seen_once_before_any_is_seen_twice() -> None:
    seen = [i for batch in sampler() for i in batch if i in INDICES["code"]]
    assert len(seen) == 16 + 9
    for first in range(0, 20, 10):
        assert sorted(seen[first : first + 10]) == list(INDICES["code"])
    assert seen[:10] != seen[10:20], "passes are shuffled differently"


def test_a_stage_draws_its_own_tasks_only_and_in_its_mixture() -> None:
    batches = list(sampler())
    assert all(i in INDICES["code"] for batch in batches[:4] for i in batch)
    for batch in batches[4:]:
        assert Counter(i in INDICES["math"] for i in batch) == {True: 3, False: 1}


def test_ranks_share_each_batch_without_overlap() -> None:
    both = [a + b for a, b in zip(sampler(rank=0, world_size=2), sampler(rank=1, world_size=2), strict=True)]
    assert [sorted(batch) for batch in both] == [sorted(batch) for batch in sampler()]


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 4 must be a multiple of the 3 processes"):
        sampler(world_size=3)


def test_stratified_counts_are_the_expectation_rounded_and_right_on_average() -> None:
    weights = {"a": 1.0, "b": 2.5, "c": 0.0, "d": 0.7}
    expected = {task: 8 * w / 4.2 for task, w in weights.items()}
    totals: Counter[str] = Counter()
    for step in range(2000):
        counts = Counter(StratifiedTaskSampler().draw(weights, 8, np.random.default_rng((7, step))))
        assert all(abs(counts[task] - expected[task]) < 1 for task in weights)
        totals += counts
    assert {t: totals[t] / 2000 for t in weights} == pytest.approx(expected, abs=0.05)


def test_a_stage_that_is_cut_short_while_it_is_sampled_gives_way_to_the_next() -> None:
    stages = [Stage({"code": 1}, 9), Stage({"math": 1}, 2)]
    batches = iter(CurriculumBatchSampler(stages, INDICES, 4, StratifiedTaskSampler(), 0))
    seen = [next(batches) for _ in range(3)]
    stages[0] = Stage({"code": 1}, 3)
    seen += batches
    assert ["code" if batch[0] in INDICES["code"] else "math" for batch in seen] == ["code"] * 3 + ["math"] * 2
    assert seen == list(CurriculumBatchSampler(stages, INDICES, 4, StratifiedTaskSampler(), 0))


def test_what_a_stage_replays_is_sampled_too() -> None:
    stages = [Stage({"code": 1}, 4, replay={"math": 1})]
    drawn = [row for batch in CurriculumBatchSampler(stages, INDICES, 4, StratifiedTaskSampler(), 0) for row in batch]
    assert sum(row in INDICES["math"] for row in drawn) == 8
