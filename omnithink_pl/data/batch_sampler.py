"""Which examples form the batch of each step, for the whole curriculum."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler

from omnithink_pl.curriculum import Stage, position, total_steps
from omnithink_pl.data.task_sampler import TaskSampler
from omnithink_pl.errors import BadInput


class CurriculumBatchSampler(Sampler[list[int]]):
    """Batches of dataset indices, one per step, as a function of the seed and the step alone.

    The stage follows from the step; the list of stages may be changed while it is iterated over, as by a stage that
    ends early, as long as the steps that are done keep theirs. Examples of a task come in shuffled passes over its
    rows. Resuming replays the draws before ``start`` (microseconds each) instead of restoring a state, so
    a resumed run sees exactly the batches that an uninterrupted one would have seen.

    Args:
        stages: The curriculum.
        indices: Dataset indices of each task's rows.
        batch_size: Prompts per step over all ranks.
        task_sampler: How the stage's mixture becomes the tasks of a batch.
        seed: Of the run.
        rank: This process among ``world_size``; it gets every ``world_size``-th prompt of a batch.
        world_size: Number of processes.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        indices: Mapping[str, Sequence[int]],
        batch_size: int,
        task_sampler: TaskSampler,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise BadInput(f"data.batch_size {batch_size} must be a multiple of the {world_size} processes")
        self.stages = stages
        self.indices = indices
        self.batch_size = batch_size
        self.task_sampler = task_sampler
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = 0
        self._permutations: dict[str, tuple[int, np.ndarray]] = {}

    def __len__(self) -> int:
        """Steps of the whole curriculum, whatever ``start`` is: Lightning counts from the saved step."""
        return total_steps(self.stages)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches from step ``start`` on."""
        drawn: Counter[str] = Counter()
        step = 0
        while step < len(self):
            stage = position(self.stages, step).stage
            rng = np.random.default_rng((self.seed, step))
            batch = [self._next(task, drawn) for task in self.task_sampler.draw(stage.mixture, self.batch_size, rng)]
            if step >= self.start:
                yield batch[self.rank :: self.world_size]
            step += 1

    def _next(self, task: str, drawn: Counter[str]) -> int:
        rows = self.indices[task]
        passed, place = divmod(drawn[task], len(rows))
        drawn[task] += 1
        return rows[int(self._permutation(task, passed)[place])]

    def _permutation(self, task: str, passed: int) -> np.ndarray:
        # The permutation of a pass is asked for once per row: keep each task's latest.
        if self._permutations.get(task, (None,))[0] != passed:
            rng = np.random.default_rng((self.seed, zlib.crc32(task.encode()), passed))
            self._permutations[task] = (passed, rng.permutation(len(self.indices[task])))
        return self._permutations[task][1]
