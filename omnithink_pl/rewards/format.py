"""The answer segment of a completion, and the rewards for its form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from omnithink_pl.rewards.base import Reward
from omnithink_pl.types import TAGS, Group, Outcome

_LAYOUT = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)


def answer_segment(text: str) -> str | None:
    """Return the text between ``<answer>`` and ``</answer>``; ``None`` unless there is one of each, in this order.

    The answer follows the thinking: only the text after the last ``</think>`` is searched, so that a tag mentioned
    while thinking neither counts nor spoils the answer. Without any ``</think>`` the whole text is searched: broken
    thinking is for the format reward. A completion that offers two answers has not chosen one.
    """
    tail = text.rpartition("</think>")[2]
    if tail.count("<answer>") != 1 or tail.count("</answer>") != 1:
        return None
    before, _, segment = tail.partition("<answer>")
    return None if "</answer>" in before else segment.partition("</answer>")[0]


def extract_answer(text: str) -> str | None:
    """Return the answer segment without surrounding white space; see :func:`answer_segment`."""
    segment = answer_segment(text)
    return None if segment is None else segment.strip()


@final
class FormatReward(Reward):
    """``tags_valid`` of the paper (section 4.4): 1 or 0, always defined.

    1 where thinking and answer occur once each, in this order, not nested, with only white space outside them.
    """

    name = "format"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [
            [Outcome.of(_tags(c.text) == len(TAGS) and bool(_LAYOUT.fullmatch(c.text))) for c in group.completions]
            for group in groups
        ]


@final
class TagsReward(Reward):
    """|tags present| / 4 of the paper (section 4.4), always defined.

    A tag is present when it occurs exactly once, anywhere; a repeated tag does not count, or a completion of nothing
    but tags would earn the full reward.
    """

    name = "tags"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [[Outcome.of(_tags(c.text) / len(TAGS)) for c in group.completions] for group in groups]


def _tags(text: str) -> int:
    """Return the number of tags that occur exactly once."""
    return sum(text.count(tag) == 1 for tag in TAGS)
