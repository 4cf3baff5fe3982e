"""A reward component: groups in, one outcome per completion out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from omnithink_pl.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine
    from omnithink_pl.types import Group, Outcome


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
