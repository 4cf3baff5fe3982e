"""A task's rewards with their weights, added up to one score per completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.scoring import Scoring
from omnithink_pl.rewards.thread import RewardThread

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.types import Group, Score


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
