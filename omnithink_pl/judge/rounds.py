"""Each comparison is asked in both orders, because judges favour a position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnithink_pl.judge.base import Comparison, JudgeUnavailable, Preference

if TYPE_CHECKING:
    from omnithink_pl.judge.prompt import Letter, PairwisePrompt
    from omnithink_pl.types import Message

_CANDIDATE_FIRST = {"A": Preference.WIN, "B": Preference.LOSS, "C": Preference.TIE}
_REFERENCE_FIRST = {"A": Preference.LOSS, "B": Preference.WIN, "C": Preference.TIE}


@dataclass(frozen=True)
class Round:
    """One comparison in one order.

    Args:
        comparison: What is compared.
        candidate_first: Whether the candidate is answer A.
    """

    comparison: Comparison
    candidate_first: bool

    def messages(self, prompt: PairwisePrompt) -> list[Message]:
        """What the judge is asked."""
        answers = (self.comparison.candidate, self.comparison.reference)
        return prompt.messages(self.comparison.prompt, *(answers if self.candidate_first else answers[::-1]))

    def key(self, judge: str, prompt: PairwisePrompt) -> str:
        """Identity of the question: judge, prompt version, request, both answers and their order."""
        comparison = self.comparison
        parts = [judge, prompt.identity, comparison.prompt, comparison.candidate, comparison.reference]
        return hashlib.sha256(json.dumps([*parts, self.candidate_first]).encode()).hexdigest()

    def preference(self, letter: Letter) -> Preference:
        """What a verdict means for the candidate."""
        return (_CANDIDATE_FIRST if self.candidate_first else _REFERENCE_FIRST)[letter]


@dataclass(frozen=True)
class Judged:
    """A comparison with what came of its two rounds.

    Args:
        comparison: What was compared.
        rounds: The preference in each order, or why there is none.
    """

    comparison: Comparison
    rounds: tuple[Preference | JudgeUnavailable, Preference | JudgeUnavailable]

    @property
    def verdict(self) -> Preference | JudgeUnavailable:
        """What both orders say; a tie where they disagree (FastChat's rule, the paper's 0.5)."""
        first, second = self.rounds
        if isinstance(first, JudgeUnavailable):
            return first
        if isinstance(second, JudgeUnavailable):
            return second
        return first if first is second else Preference.TIE

    @property
    def flipped(self) -> bool:
        """Whether the verdict depends on the order."""
        return not isinstance(self.verdict, JudgeUnavailable) and self.rounds[0] is not self.rounds[1]


def judge_both_orders(
    comparisons: Sequence[Comparison],
    ask: Callable[[list[Round]], list[Letter | JudgeUnavailable]],
) -> list[Judged]:
    """Put every comparison to a judge in both orders, each distinct one once.

    Args:
        comparisons: In any number and order, with repetitions.
        ask: Called once, with all rounds; one verdict, or why there is none, per round.

    Returns:
        One result per comparison, in order.
    """
    rounds = [Round(comparison, first) for comparison in dict.fromkeys(comparisons) for first in (True, False)]
    said: dict[Round, Preference | JudgeUnavailable] = {}
    for one, letter in zip(rounds, ask(rounds) if rounds else [], strict=True):
        said[one] = letter if isinstance(letter, JudgeUnavailable) else one.preference(letter)
    return [Judged(c, (said[Round(c, True)], said[Round(c, False)])) for c in comparisons]
