"""The rewards of multiple-choice questions: the full text of a right option, or its letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Literal, final

from omnithink_pl.rewards.base import BAD_REFERENCE, NO_ANSWER, Reward
from omnithink_pl.rewards.format import extract_answer
from omnithink_pl.types import Example, Group, Options, Outcome

Form = Literal["NFC", "NFKC"]
_LETTER = re.compile(r"\(?([A-Z])(?:\)|[.:)]|$)\s*(.*)", re.DOTALL)


@final
class QAReward(Reward):
    """1 where the answer is the full text of an accepted option, else 0 (the paper, section 4.4).

    Texts are compared after Unicode and white-space normalisation. Case counts: the options stand in the prompt to be
    copied, and units (``mW``, ``MW``), genes and elements differ by it. Compatibility characters (full width,
    ligatures, no-break spaces) are folded, except where that would make a wrong option equal to a right one, as with
    ``10²`` and ``102``. An answer that resembles no option is wrong, not undefined.
    """

    name = "qa"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [[_text_outcome(c.text, *_accepted(group.example)) for c in group.completions] for group in groups]


@final
class LetterReward(Reward):
    """1 where the answer is the letter of a right option, else 0: the second protocol of the paper's Figure 2.

    ``B``, ``(B)``, ``B.`` and ``B)`` are the same letter, in upper case. The option's own text may follow; any other
    text makes the answer wrong. An option with the same text as a right one is right too.
    """

    name = "letter"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Return one outcome per completion, in order."""
        return [[_letter_outcome(c.text, group.example) for c in group.completions] for group in groups]


def _text_outcome(text: str, exact: set[str], folded: set[str]) -> Outcome:
    if not exact:
        return Outcome.undefined(BAD_REFERENCE)
    if (answer := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    return Outcome.of(_normalise(answer, "NFC") in exact or _normalise(answer, "NFKC") in folded)


def _accepted(example: Example) -> tuple[set[str], set[str]]:
    """Return the accepted answers in NFC, and in NFKC those that no wrong option folds to."""
    reference = example.reference
    if isinstance(reference, str):
        reference = Options((reference,), (reference,))
    if not isinstance(reference, Options):
        raise TypeError(f"{example.uid}: a question's reference is Options or text, not {type(reference).__name__}")
    exact = _forms(reference.answers, "NFC")
    wrong = (text for text in reference.texts if _normalise(text, "NFC") not in exact)
    return exact, _forms(reference.answers, "NFKC") - _forms(wrong, "NFKC")


def _letter_outcome(text: str, example: Example) -> Outcome:
    options = example.reference
    if not isinstance(options, Options):
        raise TypeError(f"{example.uid}: letters need Options, not {type(options).__name__}")
    accepted = {_normalise(answer, "NFC") for answer in options.answers}
    if not accepted & {_normalise(option, "NFC") for option in options.texts}:
        return Outcome.undefined(BAD_REFERENCE)
    if (answer := extract_answer(text)) is None:
        return Outcome.undefined(NO_ANSWER)
    match = _LETTER.fullmatch(answer)
    if match is None or ascii_uppercase.index(match[1]) >= len(options.texts):
        return Outcome.of(0.0)
    option = _normalise(options.texts[ascii_uppercase.index(match[1])], "NFC")
    return Outcome.of(option in accepted and _normalise(match[2], "NFC") in ("", option))


def _forms(texts: Iterable[str], form: Form) -> set[str]:
    return {normal for text in texts if (normal := _normalise(text, form))}


def _normalise(text: str, form: Form) -> str:
    return " ".join(unicodedata.normalize(form, text).split())
