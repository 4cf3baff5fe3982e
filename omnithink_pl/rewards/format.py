"""The form of a completion: its answer segment, and the format and tags rewards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from omnithink_pl.rewards.base import Reward
from omnithink_pl.types import Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Group


NO_ANSWER = "no answer segment"
BAD_REFERENCE = "unusable reference"


def answer_segment(text: str) -> str | None:
    """What stands between ``<answer>`` and ``</answer>``, with its white space.

    The answer follows the thinking: where there is a ``</think>``, only the text after the last
    one is searched, so that a tag mentioned while thinking neither counts nor spoils the answer.
    Without any ``</think>`` the whole text is searched: broken thinking is the format reward's
    business.

    Args:
        text: A completion.

    Returns:
        The segment, or ``None`` unless exactly one opening tag is followed by exactly one closing
        tag; a completion that offers two answers has not chosen one.
    """
    tail = text.rpartition("</think>")[2]
    if tail.count("<answer>") != 1 or tail.count("</answer>") != 1:
        return None
    before, _, segment = tail.partition("<answer>")
    if "</answer>" in before:
        return None
    return segment.partition("</answer>")[0]


def extract_answer(text: str) -> str | None:
    """The answer segment without surrounding white space; see :func:`answer_segment`."""
    segment = answer_segment(text)
    return None if segment is None else segment.strip()


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
