"""The format reward: is the completion laid out as it was asked to be?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.rewards.base import Reward
from omnithink_pl.types import Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Group

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_LAYOUT = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)


@final
class FormatReward(Reward):
    """``tags_valid`` of the paper (section 4.4): 1 or 0, always defined.

    1 where thinking and answer occur once each, in this order, neither inside the other, with
    nothing but white space outside them.
    """

    name = "format"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order."""
        return [[Outcome.of(well_formed(c.text)) for c in group.completions] for group in groups]


def well_formed(text: str) -> bool:
    """Whether ``text`` is one think segment, then one answer segment, and nothing else."""
    return all(text.count(tag) == 1 for tag in TAGS) and _LAYOUT.fullmatch(text) is not None
