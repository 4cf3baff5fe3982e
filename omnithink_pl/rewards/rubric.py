"""A task's rewards with their weights, added up to one score per completion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.thread import Outcomes, RewardThread
from omnithink_pl.types import Component, Group, Outcome, Score

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine

OVERDUE = Outcome.failed("reward timed out")


@dataclass(frozen=True)
class Rubric:
    """R(x, y) = sum of w_r r(x, y) over the defined components (the paper, section 4.4).

    Args:
        rewards: Each reward with its weight; the first is the primary one.
    """

    rewards: tuple[tuple[Reward, float], ...]

    def start(self, groups: Sequence[Group]) -> Scoring:
        """Begin to score with all rewards at once, so that the slowest does not keep the others waiting."""
        return Scoring(self, groups, tuple(thread.start(groups) for thread in self._threads), time.monotonic())

    def score(self, groups: Sequence[Group], timeout: float | None = None) -> list[list[Score]]:
        """One score per completion, in the order of ``groups`` and their completions.

        Args:
            groups: A batch.
            timeout: Seconds after which a reward that has not come back has failed.
        """
        return self.start(groups).scores(timeout)

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


@dataclass(frozen=True)
class Scoring:
    """A batch that is being scored.

    Args:
        rubric: By these rewards.
        groups: The batch.
        running: The outcomes of each reward, when they are there.
        began: When, on the monotonic clock.
    """

    rubric: Rubric
    groups: Sequence[Group]
    running: tuple[Future[Outcomes], ...]
    began: float

    def scores(self, timeout: float | None = None) -> list[list[Score]]:
        """Wait for the scores.

        Args:
            timeout: Seconds since the start after which a reward that has not come back has failed.
        """
        left = None if timeout is None else max(0.0, self.began + timeout - time.monotonic())
        wait(self.running, left)
        outcomes = [self._outcomes(future) for future in self.running]
        return [
            [
                Score(
                    tuple(
                        Component(reward.name, weight, outcomes[r][g][i])
                        for r, (reward, weight) in enumerate(self.rubric.rewards)
                    )
                )
                for i in range(len(group.completions))
            ]
            for g, group in enumerate(self.groups)
        ]

    def _outcomes(self, future: Future[Outcomes]) -> Outcomes:
        if future.done():
            return future.result()
        future.cancel()  # of effect on one that has not begun, behind an earlier one that hangs
        return [[OVERDUE for _ in group.completions] for group in self.groups]
