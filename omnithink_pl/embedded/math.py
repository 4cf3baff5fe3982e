"""Miniature word problems: things that are gained and lost."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import prod
from typing import final

from omnithink_pl.embedded.problems import PEOPLE, distinct
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.types import Example

ITEMS = ("pens", "coins", "shells", "cards", "stamps", "stones", "books", "apples")
BOXES = ("boxes", "bags", "sets")
GREATEST = 20


@dataclass(frozen=True)
class Verb:
    """An event that changes how many things somebody has, ``{k}`` of them."""

    phrase: str
    sign: int  # 1 for a gain, -1 for a loss
    left_out: bool = False  # the warm start never shows which of the two it is, only random guesses


VERBS = (
    Verb("finds {k} more", 1),
    Verb("buys {k} more", 1),
    Verb("wins {k}", 1),
    Verb("loses {k}", -1),
    Verb("sells {k}", -1),
    Verb("gives away {k}", -1),
    Verb("collects {k}", 1, left_out=True),
    Verb("donates {k}", -1, left_out=True),
    Verb("receives {k}", 1, left_out=True),
    Verb("drops {k}", -1, left_out=True),
)


@dataclass(frozen=True)
class MathProblem:
    """Somebody has things, singly or in boxes, and then one or two things happen."""

    person: str
    item: str
    box: str
    start: tuple[int, ...]  # number of items, or (boxes, items in each)
    events: tuple[tuple[Verb, int], ...]  # each with its number of items

    @property
    def key(self) -> str:
        """The numbers and events: another person or thing makes no other problem."""
        return f"{self.start} {[(verb.phrase, k) for verb, k in self.events]}"

    @property
    def question(self) -> str:
        """The problem in words."""
        pronoun = PEOPLE[self.person]
        has = f"{self.start[0]} {self.box} of {self.start[1]}" if len(self.start) == 2 else str(self.start[0])
        told = [f"{self.person} has {has} {self.item}."]
        told += [f"{pronoun} {verb.phrase.format(k=k)}." for verb, k in self.events]
        return " ".join([*told, f"How many {self.item} now?"])

    @property
    def steps(self) -> list[tuple[str, int]]:
        """Each calculation with its result; the last result is the answer."""
        return calculate(self.start, tuple(verb.sign * k for verb, k in self.events))


def calculate(start: tuple[int, ...], changes: tuple[int, ...]) -> list[tuple[str, int]]:
    """Return text and result of each step: one number, or the product of two, and then the changes added."""
    steps = []
    total = prod(start)
    if len(start) == 2:
        steps.append((f"{start[0]} * {start[1]} = {total}", total))
    for change in changes:
        before, total = total, total + change
        steps.append((f"{before} {'+' if change > 0 else '-'} {abs(change)} = {total}", total))
    return steps


def draw(rng: random.Random) -> MathProblem:
    """Draw a problem whose every intermediate result lies in [0, 20]."""
    while True:
        boxed = rng.random() < 0.4
        start = (rng.randint(2, 4), rng.randint(2, 5)) if boxed else (rng.randint(3, 16),)
        events = tuple((verb, rng.randint(2, 7)) for verb in rng.sample(VERBS, rng.choice((1, 2))))
        problem = MathProblem(rng.choice(tuple(PEOPLE)), rng.choice(ITEMS), rng.choice(BOXES), start, events)
        if all(0 <= total <= GREATEST for _, total in problem.steps):
            return problem


@final
class EmbeddedMath(Source):
    """Miniature word problems. No numbers with events are in both splits, whoever they happen to."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same problems each time."""
        return [
            Example(task, text_uid(problem.key), problem.question, str(problem.steps[-1][1]))
            for problem in distinct(draw, split)
        ]
