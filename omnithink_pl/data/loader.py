"""A DataLoader that resumes at the step after the last one trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, final

from torch.utils.data import DataLoader

from omnithink_pl.data.batch_sampler import CurriculumBatchSampler
from omnithink_pl.types import Example

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
