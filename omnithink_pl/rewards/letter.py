"""The letter reward: the letter of a right option, in the order in which the prompt shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, final

from omnithink_pl.rewards.answer import BAD_REFERENCE, NO_ANSWER, extract_answer
from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.qa import normalise
from omnithink_pl.types import Options, Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Example, Group

_LETTER = re.compile(r"\(?([A-Z])(?:\)|[.:)]|$)\s*(.*)", re.DOTALL)


@final
class LetterReward(Reward):
    """1 where the answer is the letter of a right option, else 0: the second protocol of the paper's Figure 2.

    ``B``, ``(B)``, ``B.`` and ``B)`` are the same letter, in upper case; the option's own text may follow it, any
    other text makes the answer wrong. An option that is spelled like a right one is right too.
    """

    name = "letter"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order.

        Raises:
            TypeError: If a reference is not ``Options``.
        """
        return [[_outcome(c.text, _options(group.example)) for c in group.completions] for group in groups]


def _options(example: Example) -> Options:
    if not isinstance(example.reference, Options):
        raise TypeError(f"{example.uid}: letters need Options, not {type(example.reference).__name__}")
    return example.reference


def _outcome(text: str, options: Options) -> Outcome:
    accepted = {normalise(answer, "NFC") for answer in options.answers}
    if not accepted & {normalise(option, "NFC") for option in options.texts}:
        return Outcome.undefined(BAD_REFERENCE)
    answer = extract_answer(text)
    if answer is None:
        return Outcome.undefined(NO_ANSWER)
    chosen = _chosen(answer, options)
    return Outcome.of(chosen is not None and normalise(chosen, "NFC") in accepted)


def _chosen(answer: str, options: Options) -> str | None:
    """The text of the option whose letter the answer is."""
    match = _LETTER.fullmatch(answer)
    if match is None or ascii_uppercase.index(match[1]) >= len(options.texts):
        return None
    option = options.texts[ascii_uppercase.index(match[1])]
    said = normalise(match[2], "NFC")
    return option if said in ("", normalise(option, "NFC")) else None
