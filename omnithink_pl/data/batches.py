"""The batch of each step, for the whole curriculum, and a DataLoader that resumes exactly."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, final

import numpy as np
from torch.utils.data import DataLoader, Sampler

from omnithink_pl.curriculum.stages import Stage, position, total_steps
from omnithink_pl.data.samplers import TaskSampler
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example


class CurriculumBatchSampler(Sampler[list[int]]):
    """Batches of dataset indices, one per step.

    The stage follows from the step; the list of stages may be changed while it is iterated over, as by a stage that
    ends early, as long as the steps whose batches were asked for keep theirs. Examples of a task come in shuffled
    passes over its rows. What is drawn is a function of the seed, the step and the state, which holds how far each pass
    has come, what has been drawn for steps that are not finished, and what the task sampler has observed. So a resumed
    run sees exactly the batches that an uninterrupted one would have seen, and a step's batch may be asked for before
    its turn, and again.

    Args:
        stages: The curriculum.
        examples: The dataset.
        batch_size: Prompts per step over all ranks.
        task_sampler: How the stage's mixture becomes the tasks of a batch.
        seed: Of the run.
        rank: This process among ``world_size``; it gets every ``world_size``-th prompt of a batch.
        world_size: Number of processes.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        examples: Sequence[Example],
        batch_size: int,
        task_sampler: TaskSampler,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise BadInput(f"data.batch_size {batch_size} must be a multiple of the {world_size} processes")
        self.stages = stages
        self.examples = examples
        self.batch_size = batch_size
        self.task_sampler = task_sampler
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = 0
        self._rows: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            self._rows.setdefault(example.task, []).append(index)
        self._sizes = {task: len(rows) for task, rows in self._rows.items()}
        self._permutations: dict[str, tuple[int, np.ndarray]] = {}
        self._drawn: Counter[str] = Counter()
        self._batches: dict[int, list[int]] = {}
        self._more: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """Steps of the whole curriculum, whatever ``start`` is: Lightning counts from the saved step."""
        return total_steps(self.stages)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's part of the batches from step ``start`` on."""
        step = self.start
        while step < len(self):
            yield self.batch(step)[self.rank :: self.world_size]
            step += 1

    def batch(self, step: int) -> list[int]:
        """The batch of a step, over all processes; drawn when it is first asked for."""
        if step not in self._batches:
            stage = position(self.stages, step).stage
            rng = np.random.default_rng((self.seed, step))
            tasks = self.task_sampler.draw(stage.mixture, self._sizes, self.batch_size, rng)
            self._batches[step] = [self._next(task) for task in tasks]
            for kept in (self._batches, self._more):  # a batch is asked for at most one step before its turn
                for past in [s for s in kept if s < step - 1]:
                    del kept[past]
        return self._batches[step]

    def more(self, step: int, already: int, tasks: Sequence[str]) -> list[int]:
        """Further examples for a step, over all processes.

        Args:
            step: The step.
            already: How many there were before; they are not drawn again when a step is taken anew.
            tasks: The task of each.
        """
        drawn = self._more.setdefault(step, [])
        drawn += [self._next(task) for task in tasks[len(drawn) - already :]]
        return drawn[already : already + len(tasks)]

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        """What a run has to know that goes on after so many steps."""
        return {
            "drawn": dict(self._drawn),
            "batches": {step: rows for step, rows in self._batches.items() if step >= steps_done},
            "more": {step: rows for step, rows in self._more.items() if step >= steps_done},
            "task_sampler": self.task_sampler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], steps_done: int) -> None:
        """Go on from there."""
        self.start = steps_done
        self._drawn = Counter(state["drawn"])
        self._batches, self._more = dict(state["batches"]), dict(state["more"])
        self.task_sampler.load_state_dict(state["task_sampler"])

    def _next(self, task: str) -> int:
        """The next example of a task that is not passed over; after a whole pass, whichever it is."""
        rows = self._rows[task]
        for _ in rows:
            place = self._drawn[task]
            index = rows[int(self._permutation(task, place // len(rows))[place % len(rows)])]
            self._drawn[task] += 1
            rng = np.random.default_rng((self.seed, zlib.crc32(task.encode()), place, 1))
            if not self.task_sampler.passes_over(self.examples[index], rng):
                break
        return index

    def _permutation(self, task: str, passed: int) -> np.ndarray:
        # The permutation of a pass is asked for once per row: keep each task's latest.
        if self._permutations.get(task, (None,))[0] != passed:
            rng = np.random.default_rng((self.seed, zlib.crc32(task.encode()), passed))
            self._permutations[task] = (passed, rng.permutation(len(self._rows[task])))
        return self._permutations[task][1]


T = TypeVar("T")


@final
class Sealed(Generic[T]):
    """A batch on its way to the module, which opens it again.

    Lightning's precision plugins look for tensors in every list and dataclass to convert them, and refuse frozen
    dataclasses; text has none. They leave alone what they do not know.

    Args:
        content: The batch.
    """

    def __init__(self, content: T) -> None:
        self.content = content


class ResumableLoader(DataLoader[Example]):
    """Yields sealed lists of examples; its state is the number of steps that training has finished, and the sampler's.

    A loader's own count would be one ahead whenever a checkpoint is written while a batch is in
    flight, so the count comes from whoever trains.

    Args:
        dataset: Examples of all tasks.
        batch_sampler: Chooses the examples of each step.
        steps_done: Tells how many steps training has finished.
    """

    def __init__(
        self,
        dataset: Sequence[Example],
        batch_sampler: CurriculumBatchSampler,
        steps_done: Callable[[], int],
    ) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler, collate_fn=Sealed)  # type: ignore[arg-type]
        self.curriculum = batch_sampler
        self.steps_done = steps_done

    def state_dict(self) -> dict[str, Any]:
        """Where to go on from."""
        done = self.steps_done()
        return {"steps_done": done, "sampler": self.curriculum.state_dict(done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.curriculum.load_state_dict(state["sampler"], state["steps_done"])


class PromptBatch(NamedTuple):
    """Some prompts of the training split.

    Args:
        number: Its place among all batches.
        examples: The prompts.
    """

    number: int
    examples: list[Example]


def prompt_batches(examples: Sequence[Example], size: int, done: Collection[int] = ()) -> list[PromptBatch]:
    """Every example once, in order.

    Args:
        examples: Of all tasks.
        size: Examples of a batch; the last may have fewer.
        done: Numbers of batches to leave out.
    """
    starts = range(0, len(examples), size)
    batches = (PromptBatch(number, list(examples[at : at + size])) for number, at in enumerate(starts))
    return [batch for batch in batches if batch.number not in done]
