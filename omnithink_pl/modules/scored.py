"""A group with what its completions earned: what training learns from and tables show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnithink_pl.advantage import all_equal

if TYPE_CHECKING:
    from omnithink_pl.types import Group, Score


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group, one score per completion, and one advantage per completion.

    Args:
        group: The example with its completions.
        scores: One score per completion.
        advantages: One number per completion; ``None`` where it is left out of the loss.
        stale: Whether an earlier policy sampled all of it than the one that is trained on it.
    """

    group: Group
    scores: tuple[Score, ...]
    advantages: tuple[float | None, ...]
    stale: bool = False

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.group.example.task

    @property
    def has_signal(self) -> bool:
        """Whether its advantages say which completion is better than another."""
        return not all_equal([advantage for advantage in self.advantages if advantage is not None])

    @property
    def earlier(self) -> list[int]:
        """How many of each completion's first tokens an earlier policy sampled than the one that is trained on it."""
        return [len(c.token_ids) if self.stale else c.earlier for c in self.group.completions]

    @property
    def kept(self) -> list[int]:
        """Indices of the completions that take part in the loss."""
        return [i for i, advantage in enumerate(self.advantages) if advantage is not None]
