"""The tags reward: a gentler slope towards the format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.format import TAGS
from omnithink_pl.types import Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Group


@final
class TagsReward(Reward):
    """|tags present| / 4 of the paper (section 4.4), always defined.

    A tag is present when it occurs exactly once, wherever it stands; a repeated tag does not
    count, or a completion of nothing but tags would be paid in full.
    """

    name = "tags"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order."""
        return [[Outcome.of(share_of_tags(c.text)) for c in group.completions] for group in groups]


def share_of_tags(text: str) -> float:
    """A quarter for each of the four tags that occurs exactly once."""
    return sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS)
