"""The batches of a curriculum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice

import numpy as np
import pytest
import torch

from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.data.batches import ResumableLoader, StageBatchSampler
from omnithink_pl.data.samplers import StratifiedTaskSampler, TaskSampler
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example

CODE, MATH = range(10), range(10, 23)
EXAMPLES = [Example("code" if i in CODE else "math", str(i), "?", "!") for i in range(23)]
STAGES = [Stage({"code": 1}, 4), Stage({"code": 1, "math": 3, "qa": 0}, 9)]
# What the default has always drawn with seed 0.
BATCHES = [
    *([6, 2, 4, 5], [1, 9, 8, 3], [7, 0, 4, 5], [0, 6, 2, 8], [19, 12, 11, 7], [22, 17, 9, 10], [18, 14, 3, 20]),
    *([1, 16, 21, 13], [6, 15, 22, 14], [3, 15, 20, 10], [18, 11, 21, 7], [16, 5, 19, 17], [13, 12, 14, 1]),
]


class Staged(StageBatchSampler):
    """Enters the stages of a list, as the curriculum does: behind a stage's last batch, before the next is drawn."""

    stages = STAGES

    def __iter__(self) -> Iterator[list[int]]:
        ends = list(accumulate(stage.steps for stage in self.stages))
        self.total_steps = ends[-1]
        for stage, end in zip(self.stages, ends, strict=True):
            if self.start < end:
                self.enter(stage.mixture, stage.sampler)
                yield from islice(super().__iter__(), end - self.start)
                self.start = end


def sampler(seed: int = 0, task_sampler: TaskSampler | None = None, **ranks: int) -> Staged:
    return Staged(EXAMPLES, 4, task_sampler or StratifiedTaskSampler(), seed, **ranks)


def entered(stage: Stage = STAGES[0]) -> Staged:
    made = sampler()
    made.enter(stage.mixture)
    return made


class Choosy(TaskSampler):
    """Passes over the rows of some tasks."""

    def __init__(self, *tasks: str) -> None:
        self.tasks = tasks

    def mixture(self, weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
        return dict(weights)

    def passes_over(self, example: Example, rng: np.random.Generator) -> bool:
        return example.task in self.tasks and int(example.uid) % 3 > 0


def test_the_default_draws_what_it_has_always_drawn() -> None:
    assert list(sampler()) == BATCHES


@pytest.mark.parametrize("done", [0, 1, 4, 7, 13])
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_resumed_loader_sees_what_an_uninterrupted_one_would_have_seen(done: int, ahead: int, tmp_path) -> None:
    before = sampler(task_sampler=Choosy("math"))
    expected = list(sampler(task_sampler=Choosy("math")))
    batches = iter(before)
    for _ in range(min(done + ahead, 13)):  # a checkpoint may be written when the next batch is drawn already
        next(batches)
    torch.save(ResumableLoader(before, lambda: done).state_dict(), tmp_path / "state")
    resumed = sampler(task_sampler=Choosy("math"))
    loader = ResumableLoader(resumed, lambda: done)
    loader.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert list(resumed) == expected[done:]
    assert len(resumed) == 13


def test_further_examples_go_on_where_the_pass_is_and_are_drawn_once() -> None:
    drawn = entered()
    first = drawn.batch(0)
    more = drawn.more(0, 0, ["code"] * 3)
    again = drawn.more(0, 3, ["code"] * 2)
    assert [*first, *more, *again, *drawn.batch(1)][:13] == [i for batch in BATCHES for i in batch if i in CODE][:13]
    resumed = entered()
    resumed.load_state_dict(drawn.state_dict(0), 0)  # interrupted in step 0, which is then taken anew
    assert resumed.batch(0) == first
    assert resumed.more(0, 0, ["code"] * 3) == more
    assert resumed.more(0, 3, ["code"] * 2) == again
    assert resumed.batch(2) == drawn.batch(2)


def test_a_batch_may_be_asked_for_before_its_turn_and_again() -> None:
    drawn = entered()
    assert [drawn.batch(0), drawn.batch(1), drawn.batch(0)] == [BATCHES[0], BATCHES[1], BATCHES[0]]
    assert list(drawn) == BATCHES


def test_a_row_that_is_passed_over_is_replaced_by_another_of_its_task() -> None:
    for ours, theirs in zip(sampler(task_sampler=Choosy("math")), BATCHES, strict=True):
        assert [i in CODE for i in ours] == [i in CODE for i in theirs]
        assert all(i in CODE or i % 3 == 0 for i in ours)


def test_where_all_rows_are_passed_over_one_is_taken_all_the_same() -> None:
    class Never(Choosy):
        def passes_over(self, example: Example, rng: np.random.Generator) -> bool:
            return True

    assert [len(batch) for batch in sampler(task_sampler=Never())] == [4] * 13


def test_batches_are_a_function_of_the_seed() -> None:
    assert list(sampler(1)) == list(sampler(1)) != list(sampler(2))


def test_every_row_of_a_task_is_seen_once_before_any_is_seen_twice() -> None:
    seen = [i for batch in sampler() for i in batch if i in CODE]
    assert len(seen) == 16 + 9
    for first in range(0, 20, 10):
        assert sorted(seen[first : first + 10]) == list(CODE)
    assert seen[:10] != seen[10:20], "passes are shuffled differently"


def test_a_stage_draws_its_own_tasks_only_and_in_its_mixture() -> None:
    batches = list(sampler())
    assert all(i in CODE for batch in batches[:4] for i in batch)
    for batch in batches[4:]:
        assert Counter(i in MATH for i in batch) == {True: 3, False: 1}


def test_ranks_share_each_batch_without_overlap() -> None:
    both = [a + b for a, b in zip(sampler(rank=0, world_size=2), sampler(rank=1, world_size=2), strict=True)]
    assert [sorted(batch) for batch in both] == [sorted(batch) for batch in sampler()]


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 4 must be a multiple of the 3 processes"):
        sampler(world_size=3)


def test_the_iteration_ends_when_the_last_stage_is_left() -> None:
    drawn = entered()
    batches = StageBatchSampler.__iter__(drawn)
    assert [next(batches) for _ in range(3)] == BATCHES[:3]
    drawn.leave()
    assert list(batches) == []


def test_what_a_stage_replays_is_sampled_too() -> None:
    drawn = entered(Stage({"code": 1}, 4, replay={"math": 1}))
    assert sum(row in MATH for step in range(4) for row in drawn.batch(step)) == 8


def test_other_rows_than_those_of_the_checkpoint_are_refused() -> None:
    """A file that was edited meanwhile, or pass rates that were sampled anew: drawn numbers would mean other rows."""
    state = entered().state_dict(0)
    fewer, reordered = [*EXAMPLES[:5], *EXAMPLES[6:]], [*EXAMPLES[1::-1], *EXAMPLES[2:]]
    for examples, now in ((fewer, 9), (reordered, 10)):
        other = StageBatchSampler(examples, 4, StratifiedTaskSampler(), 0)
        with pytest.raises(BadInput, match=rf"rows of code are not those .*\(10 rows then, {now} now\); restore"):
            other.load_state_dict(state, 0)
    of_another_task = [Example("qa", "0", "?", "!")]
    for examples in ([*EXAMPLES, *of_another_task], EXAMPLES[:10]):
        StageBatchSampler(examples, 4, StratifiedTaskSampler(), 0).load_state_dict(state, 0)
