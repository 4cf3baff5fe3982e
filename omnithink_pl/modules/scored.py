"""A group with what its completions earned: what training learns from and tables show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnithink_pl.types import Group, Score


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group, one score per completion, and one advantage per completion.

    Args:
        group: The example with its completions.
        scores: One score per completion.
        advantages: One number per completion; ``None`` where it is left out of the loss.
    """

    group: Group
    scores: tuple[Score, ...]
    advantages: tuple[float | None, ...]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.group.example.task

    @property
    def kept(self) -> list[int]:
        """Indices of the completions that take part in the loss."""
        return [i for i, advantage in enumerate(self.advantages) if advantage is not None]
