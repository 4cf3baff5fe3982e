"""The question-answering reward: the full text of an accepted answer, to the letter."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, final

from omnithink_pl.rewards.answer import BAD_REFERENCE, NO_ANSWER, extract_answer
from omnithink_pl.rewards.base import Reward
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
