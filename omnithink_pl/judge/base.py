"""The interface of a judge: pairwise comparison of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rewards.base import Awaits
    from omnithink_pl.rollout.base import RolloutEngine


class Preference(Enum):
    """A pairwise verdict; its value is the paper's reward for the candidate."""

    WIN = 1.0
    TIE = 0.5
    LOSS = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate answer against a reference answer to the same prompt."""

    prompt: str  # the question; of a conversation, all questions
    candidate: str  # the answer; of a conversation, its transcript
    reference: str  # as the candidate
    turns: int = 1  # of the conversation, which is judged by its last answer


class JudgeUnavailable(RuntimeError):
    """The judge gave no verdict, for one of a few causes that are counted: the reward is *failed*, not 0."""

    def __init__(self, detail: str, cause: str = "unavailable") -> None:
        super().__init__(detail)
        self.cause = cause


@runtime_checkable  # or jsonargparse cannot resolve the **kwargs of a class that takes one
class Judge(Protocol):
    """Compares answers pairwise."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """Return one preference, or why there is none, per comparison, in order."""

    def close(self) -> None:
        """Release connections. Safe to call twice."""


@runtime_checkable
class MeasuredJudge(Judge, Protocol):
    """A judge that keeps statistics of its verdicts."""

    def metrics(self) -> dict[str, float]:
        """Return the statistics since the last call, by name."""


@runtime_checkable
class ScheduledJudge(Judge, Protocol):
    """A judge that says when it may be asked; others are taken to compare a batch's prompts."""

    awaits: Awaits


@runtime_checkable
class AttachedJudge(Judge, Protocol):
    """A judge that may ask the policy in training."""

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Take the policy and the engine that samples from it. Called once, before training."""
