"""The rewards of multiple-choice questions: the full text of a right option, or its letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal, final

from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.format import BAD_REFERENCE, NO_ANSWER, extract_answer
from omnithink_pl.types import Options, Outcome

if TYPE_CHECKING:
    from omnithink_pl.types import Example, Group


Form = Literal["NFC", "NFKC"]


@final
class QAReward(Reward):
    """1 where the answer is one of the accepted answers, else 0 (the paper, section 4.4).

    Compared are the full texts after Unicode and white-space normalisation. Case counts: the
    options stand in the prompt to be copied, and units (``mW``, ``MW``), genes and elements
    differ by it. Compatibility characters (full width, ligatures, no-break spaces) are folded,
    except where that would make a wrong option equal to a right one, as with ``10²`` and ``102``.
    An answer that no option resembles is wrong, not undefined.
    """

    name = "qa"
    awaits = "group"

    def score(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One outcome per completion, in order.

        Raises:
            TypeError: If a reference is neither ``Options`` nor text.
        """
        return [[_outcome(c.text, *_accepted(group.example)) for c in group.completions] for group in groups]


def _outcome(text: str, exact: set[str], folded: set[str]) -> Outcome:
    if not exact:
        return Outcome.undefined(BAD_REFERENCE)
    answer = extract_answer(text)
    if answer is None:
        return Outcome.undefined(NO_ANSWER)
    return Outcome.of(normalise(answer, "NFC") in exact or normalise(answer, "NFKC") in folded)


def _accepted(example: Example) -> tuple[set[str], set[str]]:
    """Accepted answers to the letter, and those that stay apart from wrong options when folded."""
    reference = example.reference
    if isinstance(reference, str):
        reference = Options((reference,), (reference,))
    if not isinstance(reference, Options):
        raise TypeError(f"{example.uid}: a question's reference is Options or text, not {type(reference).__name__}")
    exact = _forms(reference.answers, "NFC")
    wrong = (text for text in reference.texts if normalise(text, "NFC") not in exact)
    return exact, _forms(reference.answers, "NFKC") - _forms(wrong, "NFKC")


def _forms(texts: Iterable[str], form: Form) -> set[str]:
    return {normal for text in texts if (normal := normalise(text, form))}


def normalise(text: str, form: Form) -> str:
    """Unicode normal form, with every run of white space as one space and none at the ends."""
    return " ".join(unicodedata.normalize(form, text).split())


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
        return [[_letter_outcome(c.text, _options(group.example)) for c in group.completions] for group in groups]


def _options(example: Example) -> Options:
    if not isinstance(example.reference, Options):
        raise TypeError(f"{example.uid}: letters need Options, not {type(example.reference).__name__}")
    return example.reference


def _letter_outcome(text: str, options: Options) -> Outcome:
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
