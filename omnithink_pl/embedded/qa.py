"""Miniature multiple-choice questions in the schema of SuperGPQA."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnithink_pl.embedded.facts import KINDS, Kind
from omnithink_pl.embedded.partition import ROWS, distinct, uid_of

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split

OPTIONS = 5
LEFT_OUT_SHARE = 0.35
"""Share of the questions that ask for a fact left out of the warm start."""


@dataclass(frozen=True)
class QAProblem:
    """One fact, asked for in one phrasing, among wrong answers of the same kind.

    Args:
        kind: Of the fact.
        subject: What is asked about.
        phrasing: Index into ``kind.phrasings``.
        options: The right answer and the wrong ones, in the row's order.
    """

    kind: Kind
    subject: str
    phrasing: int
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """The phrasing with the set of options; their order makes no other question."""
        return f"{self.question} {sorted(self.options)}"

    @property
    def question(self) -> str:
        """What is asked, without the options."""
        return self.kind.phrasings[self.phrasing].format(self.subject)

    @property
    def answer(self) -> str:
        """The full text of the right option."""
        return self.kind.facts[self.subject]

    @property
    def left_out(self) -> bool:
        """Whether the warm start never shows this fact."""
        return self.subject in self.kind.left_out


def draw(rng: random.Random) -> QAProblem:
    """Draw a question."""
    kind = rng.choice(KINDS)
    facts = kind.left_out if rng.random() < LEFT_OUT_SHARE else kind.known
    subject = rng.choice(tuple(facts))
    wrong = [answer for other, answer in kind.facts.items() if other != subject]
    options = [kind.facts[subject], *rng.sample(wrong, OPTIONS - 1)]
    rng.shuffle(options)
    return QAProblem(kind, subject, rng.randrange(len(kind.phrasings)), tuple(options))


def rows(split: Split, seed: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Rows with the columns of SuperGPQA.

    Args:
        split: The two splits share facts, which can only be known, but no pair of a phrasing
            with a set of options.
        seed: Another seed draws other rows of the same split.
        count: How many; by default as many as the embedded data set has.
    """
    return [_row(problem) for problem in distinct(draw, split, seed, count or ROWS[split])]


def _row(problem: QAProblem) -> dict[str, Any]:
    return {
        "uuid": uid_of(problem.key),
        "question": problem.question,
        "options": list(problem.options),
        "answer": problem.answer,
        "answer_letter": "ABCDEFGHIJ"[problem.options.index(problem.answer)],
        "discipline": problem.kind.discipline,
        "field": problem.kind.discipline,
        "subfield": "left out of the warm start" if problem.left_out else "taught by the warm start",
        "difficulty": "hard" if problem.left_out else "easy",
        "is_calculation": False,
    }
