"""A task's rewards with their weights, added up to one score per completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnithink_pl.rewards.base import Reward
from omnithink_pl.types import Component, Group, Score


@dataclass(frozen=True)
class Rubric:
    """R(x, y) = sum of w_r r(x, y) over the defined components (the paper, section 4.4).

    Args:
        rewards: Each reward with its weight; the first is the primary one.
    """

    rewards: tuple[tuple[Reward, float], ...]

    def score(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One score per completion, in the order of ``groups`` and their completions."""
        outcomes = [reward.score(groups) for reward, _ in self.rewards]
        return [
            [
                Score(
                    tuple(
                        Component(reward.name, weight, outcomes[r][g][i])
                        for r, (reward, weight) in enumerate(self.rewards)
                    )
                )
                for i in range(len(group.completions))
            ]
            for g, group in enumerate(groups)
        ]

    def metrics(self) -> dict[str, float]:
        """What the rewards measured of themselves since they were last asked, by name."""
        return {name: value for reward, _ in self.rewards for name, value in reward.metrics().items()}

    def close(self) -> None:
        """Release what the rewards hold."""
        for reward, _ in self.rewards:
            reward.close()
