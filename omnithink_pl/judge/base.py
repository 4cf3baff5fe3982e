"""The seam between the writing reward and whoever compares two answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Preference(Enum):
    """A pairwise verdict, as the paper's reward for the candidate."""

    WIN = 1.0
    TIE = 0.5
    LOSS = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate answer against a reference answer to the same prompt."""

    prompt: str
    candidate: str
    reference: str


class JudgeUnavailable(RuntimeError):
    """The judge could not say; the reward of this comparison is *failed*, not 0."""


class Judge(Protocol):
    """Compares answers pairwise."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """One preference, or why there is none, per comparison, in order."""
        ...

    def close(self) -> None:
        """Release connections. Safe to call twice."""
        ...
