"""A reward, and a rubric: the weighted rewards of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from omnithink_pl.rewards.scoring import RewardThread, Scoring

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.types import Group, Outcome, Score


# What has to be there before a reward is asked: a group; all groups of its task in the batch; or these and a policy
# that samples nothing else meanwhile.
Awaits: TypeAlias = Literal["group", "batch", "policy"]


class Reward(ABC):
    """Scores every completion of a batch of groups.

    A reward sees the whole batch, so that it can compare across prompts. One whose outcomes for a group are the same
    whatever other groups there are says ``awaits = "group"`` and is asked as soon as a group has been sampled, while
    others still are; about all that are waiting in one call, so that it can verify in parallel. It never raises for a
    bad completion: it returns ``undefined`` (the task cannot say) or ``failed`` (we could not). A wrong configuration
    does raise.
    """

    name: str
    awaits: Awaits = "batch"

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in the order of ``groups`` and their completions."""

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:  # noqa: B027  (most rewards ask neither)
        """Take what some rewards ask: the policy that is trained, and its engine. Called once, before training."""

    def metrics(self) -> dict[str, float]:
        """What the reward measured of itself since it was last asked, by name; not the rewards themselves."""
        return {}

    def close(self) -> None:  # noqa: B027  (most rewards hold nothing)
        """Release processes and connections. Safe to call twice."""


@dataclass(frozen=True)
class Rubric:
    """R(x, y) = sum of w_r r(x, y) over the defined components (the paper, section 4.4).

    Args:
        rewards: Each reward with its weight; the first is the primary one.
    """

    rewards: tuple[tuple[Reward, float], ...]

    def open(self) -> Scoring:
        """Get ready to score groups with all rewards at once, so that the slowest does not keep the others waiting."""
        weights = (weight for _, weight in self.rewards)
        return Scoring(tuple(zip(self._threads, weights, strict=True)))

    def score(self, groups: Sequence[Group], timeout: float | None = None) -> list[list[Score]]:
        """One score per completion, in the order of ``groups`` and their completions.

        Args:
            groups: A batch.
            timeout: Seconds after which a reward that has not come back has failed.
        """
        scoring = self.open()
        scoring.add(dict(enumerate(groups)))
        scoring.complete()
        return list(scoring.scores(timeout).values())

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Hand the rewards what some of them ask: the policy that is trained, and its engine."""
        for reward, _ in self.rewards:
            reward.attach(policy, engine)

    def metrics(self) -> dict[str, float]:
        """What the rewards measured of themselves since they were last asked, by name."""
        return {name: value for reward, _ in self.rewards for name, value in reward.metrics().items()}

    def close(self) -> None:
        """Release what the rewards hold, within about a second for each that hangs. Safe to call twice."""
        for thread in self._threads:
            thread.close()

    @cached_property
    def _threads(self) -> tuple[RewardThread, ...]:
        return tuple(RewardThread(reward) for reward, _ in self.rewards)
