"""Stories of the embedded writing task: faithful ones, and ones with a chosen flaw."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from omnithink_pl.embedded.lexicon import BLAND, MOODS, NOUNS, OPENERS, PEOPLE, ROWS, distinct

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split


Flaw = Literal["none", "bare", "bland", "short", "wrong mood"]

_REQUEST = re.compile(r"Write three sentences about (\w+), using (\w+), (\w+) and (\w+)\. The mood is (\w+)\.")


@dataclass(frozen=True)
class WritingProblem:
    """Three sentences about a hero, using three given words, in a given mood."""

    hero: str
    words: tuple[str, str, str]
    mood: str

    @property
    def key(self) -> str:
        """The words, in any order, with the mood; another hero makes no other problem."""
        return f"{sorted(self.words)} {self.mood}"

    @property
    def question(self) -> str:
        """What is asked."""
        first, second, third = self.words
        return f"Write three sentences about {self.hero}, using {first}, {second} and {third}. The mood is {self.mood}."

    @classmethod
    def parse(cls, text: str) -> WritingProblem | None:
        """The problem that a prompt asks, or None where it is not one of ours."""
        match = _REQUEST.search(text)
        if match is None:
            return None
        hero, first, second, third, mood = match.groups()
        return cls(hero, (first, second, third), mood)


def draw(rng: random.Random) -> WritingProblem:
    """Draw a problem."""
    first, second, third = rng.sample(tuple(NOUNS), 3)
    return WritingProblem(rng.choice(tuple(PEOPLE)), (first, second, third), rng.choice(tuple(MOODS)))


def tell(problem: WritingProblem, rng: random.Random, flaw: Flaw = "none") -> str:
    """A story that answers the problem.

    Args:
        problem: What is asked.
        rng: Draws openers, verbs, and which sentences carry the mood.
        flaw: ``bare`` expresses the mood nowhere, ``bland`` uses two words in no fitting way,
            ``short`` stops a sentence early, ``wrong mood`` expresses another mood.
    """
    mood = problem.mood
    if flaw == "wrong mood":
        mood = rng.choice([other for other in MOODS if other != mood])
    words = problem.words[:2] if flaw == "short" else problem.words
    moods = rng.sample(MOODS[mood], 3)
    plain = rng.randrange(3)
    bland = rng.sample(range(3), 2) if flaw == "bland" else []
    sentences = []
    for index, word in enumerate(words):
        who = problem.hero if index == 0 else PEOPLE[problem.hero].lower()
        does = f"{rng.choice(BLAND)} {word}" if index in bland else rng.choice(NOUNS[word])
        feels = "" if index == plain or flaw == "bare" else f" {moods[index]}"
        sentences.append(f"{rng.choice(OPENERS[index])} {who} {does}{feels}.")
    return " ".join(sentences)


REFERENCE_FLAWS: dict[Flaw, float] = {"none": 0.3, "bare": 0.3, "bland": 0.25, "short": 0.15}
"""How good references are: as in a real data set, most leave something to be desired, so that a
good story wins against many of them."""


def rows(split: Split, seed: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Rows with the column of Creative_Writing-ShareGPT.

    Args:
        split: The two splits share words and moods, but no three words with a mood.
        seed: Another seed draws other rows of the same split.
        count: How many; by default as many as the embedded data set has.
    """
    return [_row(problem) for problem in distinct(draw, split, seed, count or ROWS[split])]


def _row(problem: WritingProblem) -> dict[str, Any]:
    rng = random.Random(problem.question)
    flaw = rng.choices(tuple(REFERENCE_FLAWS), tuple(REFERENCE_FLAWS.values()))[0]
    return {
        "conversations": [
            {"from": "human", "value": problem.question},
            {"from": "gpt", "value": tell(problem, rng, flaw)},
        ]
    }
