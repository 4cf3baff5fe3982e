"""The batch of each step, over all stages, and a DataLoader that resumes exactly."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, final

import numpy as np
from torch.utils.data import DataLoader, Sampler

from omnithink_pl.data.samplers import TaskSampler
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example

T = TypeVar("T")


class StageBatchSampler(Sampler[list[int]]):
    """Batches of dataset indices, one per step.

    The tasks of a batch are drawn by the task sampler of the present stage (:meth:`enter`); iteration ends when there
    is no stage any more (:meth:`leave`). Examples of a task come in shuffled passes over its rows. A batch is a
    function of the seed, the step and the state: how far each pass has come, what was drawn for steps that are not
    finished, and what the task samplers observed. So a resumed run sees the batches that an uninterrupted one would
    have seen, and a step's batch may be asked for one step ahead, and again.

    Args:
        examples: The dataset.
        batch_size: Prompts per step over all ranks.
        task_sampler: Used by stages that name none.
        seed: Of the run.
        rank: Rank of this process; it gets every ``world_size``-th prompt of a batch.
        world_size: Number of processes.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        task_sampler: TaskSampler,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise BadInput(f"data.batch_size {batch_size} must be a multiple of the {world_size} processes")
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.total_steps = 0
        self.start = 0
        self._default = self._sampler = task_sampler
        self._mixture: Mapping[str, float] | None = None
        self._saved_state: Mapping[str, Any] | None = None  # of a stage's own sampler, until the stage is entered
        self._rows: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            self._rows.setdefault(example.task, []).append(index)
        self._sizes = {task: len(rows) for task, rows in self._rows.items()}
        # What rows have in common with the same ones in the same order alone: number and checksum.
        self._identities = {
            task: (len(rows), zlib.crc32("\n".join(examples[index].key for index in rows).encode()))
            for task, rows in self._rows.items()
        }
        self._permutations: dict[str, tuple[int, np.ndarray]] = {}
        self._drawn: Counter[str] = Counter()
        self._batches: dict[int, list[int]] = {}
        self._more: dict[int, list[int]] = {}

    @property
    def task_sampler(self) -> TaskSampler:
        """Task sampler of the present stage."""
        return self._sampler

    def enter(self, mixture: Mapping[str, float], task_sampler: TaskSampler | None = None) -> None:
        """Draw from a stage from now on.

        Args:
            mixture: Positive weight of each task.
            task_sampler: The stage's own, if it has one.
        """
        self._mixture, self._sampler = mixture, task_sampler or self._default
        if self._saved_state is not None and task_sampler is not None:
            task_sampler.load_state_dict(self._saved_state)
        self._saved_state = None

    def leave(self) -> None:
        """End the iteration: the last stage is over."""
        self._mixture = None

    def __len__(self) -> int:
        """Return the steps of the whole plan, whatever ``start`` is: Lightning counts from the saved step."""
        return self.total_steps

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's part of the batches from step ``start`` on, until the last stage is left."""
        step = self.start
        while self._mixture is not None:
            yield self.batch(step)[self.rank :: self.world_size]
            step += 1

    def batch(self, step: int) -> list[int]:
        """Return the batch of a step of the present stage, over all ranks; drawn when it is first asked for."""
        if step not in self._batches:
            if self._mixture is None:
                raise RuntimeError(f"step {step} is in no stage: enter one first")
            rng = np.random.default_rng((self.seed, step))
            tasks = self._sampler.draw(self._mixture, self._sizes, self.batch_size, rng)
            self._batches[step] = [self._next(task) for task in tasks]
            for kept in (self._batches, self._more):  # a batch is asked for at most one step before its turn
                for past in [s for s in kept if s < step - 1]:
                    del kept[past]
        return self._batches[step]

    def more(self, step: int, already: int, tasks: Sequence[str]) -> list[int]:
        """Return further examples for a step, over all ranks.

        Args:
            step: The step.
            already: How many further ones there were before; they are not drawn again when a step is repeated.
            tasks: The task of each.
        """
        drawn = self._more.setdefault(step, [])
        drawn += [self._next(task) for task in tasks[len(drawn) - already :]]
        return drawn[already : already + len(tasks)]

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        """Return the state of a run that continues after ``steps_done`` steps."""
        own = None if self._sampler is self._default else self._sampler.state_dict()
        return {
            "rows": self._identities,
            "drawn": dict(self._drawn),
            "batches": {step: rows for step, rows in self._batches.items() if step >= steps_done},
            "more": {step: rows for step, rows in self._more.items() if step >= steps_done},
            "task_sampler": self._default.state_dict(),
            "stage_sampler": own,
        }

    def load_state_dict(self, state: Mapping[str, Any], steps_done: int) -> None:
        """Restore the state; that of a stage's own sampler once the stage is entered.

        Raises:
            BadInput: If a task's training rows are others than those that it was drawn from.
        """
        before = state.get("rows", {})  # older checkpoints do not say
        for task in before.keys() & self._rows.keys():
            if before[task] != self._identities[task]:
                raise BadInput(
                    f"--ckpt_path: the training rows of {task} are not those of the checkpoint ({before[task][0]} rows "
                    f"then, {len(self._rows[task])} now); restore what data.tasks.{task}, data.pass_rates or "
                    f"data.demonstrations read, or start anew without --ckpt_path"
                )
        self.start = steps_done
        self._drawn = Counter(state["drawn"])
        self._batches, self._more = dict(state["batches"]), dict(state["more"])
        self._default.load_state_dict(state["task_sampler"])
        self._saved_state = state["stage_sampler"]

    def _next(self, task: str) -> int:
        """Return the next example of a task that is not passed over; after a whole pass, the next one anyway."""
        rows = self._rows[task]
        for _ in rows:
            place = self._drawn[task]
            index = rows[int(self._permutation(task, place // len(rows))[place % len(rows)])]
            self._drawn[task] += 1
            rng = np.random.default_rng((self.seed, zlib.crc32(task.encode()), place, 1))
            if not self._sampler.passes_over(self.examples[index], rng):
                break
        return index

    def _permutation(self, task: str, epoch: int) -> np.ndarray:
        # A pass asks for its permutation once per row: cache the latest of each task.
        if self._permutations.get(task, (None,))[0] != epoch:
            rng = np.random.default_rng((self.seed, zlib.crc32(task.encode()), epoch))
            self._permutations[task] = (epoch, rng.permutation(len(self._rows[task])))
        return self._permutations[task][1]


@final
class Sealed(Generic[T]):
    """A batch that Lightning's precision plugins leave alone.

    They look for tensors in every list and dataclass to convert them, and refuse frozen dataclasses; text has none.

    Args:
        content: The batch.
    """

    def __init__(self, content: T) -> None:
        self.content = content


class ResumableLoader(DataLoader[Example]):
    """Yields sealed lists of examples; its state is the number of finished steps, and the sampler's.

    A loader's own count is one ahead whenever a checkpoint is written while a batch is in flight, so the count comes
    from the module.

    Args:
        batch_sampler: Chooses the examples of each step.
        steps_done: Returns the number of steps that training has finished.
    """

    def __init__(self, batch_sampler: StageBatchSampler, steps_done: Callable[[], int]) -> None:
        dataset: Any = batch_sampler.examples
        super().__init__(dataset, batch_sampler=batch_sampler, collate_fn=Sealed)
        self.stages = batch_sampler
        self.steps_done = steps_done

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from."""
        done = self.steps_done()
        return {"steps_done": done, "sampler": self.stages.state_dict(done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""
        self.stages.load_state_dict(state["sampler"], state["steps_done"])


class PromptBatch(NamedTuple):
    """Some prompts of the training split, to sample from without training.

    Args:
        number: Its place among all batches.
        examples: The prompts.
    """

    number: int
    examples: list[Example]


def prompt_batches(examples: Sequence[Example], size: int, done: Collection[int] = ()) -> list[PromptBatch]:
    """Divide examples into numbered batches, in order.

    Args:
        examples: Of all tasks.
        size: Examples of a batch; the last may have fewer.
        done: Numbers of batches to leave out.
    """
    starts = range(0, len(examples), size)
    batches = (PromptBatch(number, list(examples[at : at + size])) for number, at in enumerate(starts))
    return [batch for batch in batches if batch.number not in done]
