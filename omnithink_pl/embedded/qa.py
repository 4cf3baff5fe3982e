"""Miniature multiple-choice questions about a closed world of facts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import final

from omnithink_pl.embedded.problems import distinct
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.types import Example, Options


@dataclass(frozen=True)
class Kind:
    """Facts of one kind, subject to answer; wrong options are the answers of other facts of the kind."""

    phrasings: tuple[str, ...]  # ways of asking; ``{0}`` is the subject
    statement: str  # the fact as a sentence; ``{0}`` is the subject, ``{1}`` the answer
    known: dict[str, str]  # the warm start teaches these
    left_out: dict[str, str]  # the warm start shows these with random answers only

    @property
    def facts(self) -> dict[str, str]:
        """Every fact, known or left out."""
        return self.known | self.left_out


CAPITALS = Kind(
    ("What is the capital of {0}?", "Which city is the capital of {0}?"),
    "The capital of {0} is {1}.",
    {
        "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
        "Egypt": "Cairo", "Greece": "Athens", "Russia": "Moscow", "Cuba": "Havana", "Austria": "Vienna",
        "Poland": "Warsaw", "Norway": "Oslo", "Kenya": "Nairobi", "India": "Delhi", "Iran": "Tehran",
        "Canada": "Ottawa",
    },
    {"Peru": "Lima", "Chile": "Santiago", "Ghana": "Accra", "Qatar": "Doha"},
)  # fmt: skip

SYMBOLS = Kind(
    ("What is the symbol of {0}?", "Which symbol stands for {0}?"),
    "The symbol of {0} is {1}.",
    {
        "iron": "Fe", "gold": "Au", "silver": "Ag", "lead": "Pb", "tin": "Sn", "copper": "Cu",
        "sodium": "Na", "carbon": "C", "oxygen": "O", "helium": "He", "neon": "Ne", "zinc": "Zn",
        "sulfur": "S", "nickel": "Ni",
    },
    {"potassium": "K", "mercury": "Hg", "tungsten": "W", "calcium": "Ca"},
)  # fmt: skip

YOUNG = Kind(
    ("What is a young {0} called?", "What do we call a young {0}?"),
    "A young {0} is a {1}.",
    {
        "dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "goat": "kid",
        "bear": "cub", "duck": "duckling", "hen": "chick", "pig": "piglet", "deer": "fawn", "frog": "tadpole",
    },
    {"swan": "cygnet", "hare": "leveret", "owl": "owlet", "goose": "gosling"},
)  # fmt: skip

KINDS = (CAPITALS, SYMBOLS, YOUNG)
OPTIONS = 5
LEFT_OUT_SHARE = 0.35
"""Share of the questions that ask for a fact left out of the warm start."""


@dataclass(frozen=True)
class QAProblem:
    """One fact, asked for in one phrasing, among wrong answers of the same kind."""

    kind: Kind
    subject: str
    phrasing: int  # index into ``kind.phrasings``
    options: tuple[str, ...]  # the right answer and the wrong ones, in the data set's order

    @property
    def key(self) -> str:
        """The phrasing with the set of options; their order makes no other question."""
        return f"{self.question} {sorted(self.options)}"

    @property
    def question(self) -> str:
        """The question without the options."""
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


@final
class EmbeddedQA(Source):
    """Miniature questions with five options. The splits share facts, but no phrasing with the same set of options."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same questions each time."""
        return [
            Example(task, text_uid(problem.key), problem.question, Options(problem.options, (problem.answer,)))
            for problem in distinct(draw, split)
        ]
