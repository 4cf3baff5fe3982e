"""Miniature word problems in the schema of OpenR1-Math."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnithink_pl.embedded.lexicon import PEOPLE, ROWS, distinct, uid_of

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split


ITEMS = ("pens", "coins", "shells", "cards", "stamps", "stones", "books", "apples")
BOXES = ("boxes", "bags", "sets")
GREATEST = 20


@dataclass(frozen=True)
class Verb:
    """What may happen to somebody's things.

    Args:
        phrase: How the problem says it; ``{k}`` is how many.
        sign: 1 where they gain, -1 where they lose.
        left_out: The warm start never shows which of the two it is, only random guesses.
    """

    phrase: str
    sign: int
    left_out: bool = False


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
    """Somebody has things, singly or in boxes, and then one or two things happen.

    Args:
        person: Who.
        item: What, in the plural.
        box: The name of what holds the items.
        start: How many items, or (boxes, items in each).
        events: What happens, with how many.
    """

    person: str
    item: str
    box: str
    start: tuple[int, ...]
    events: tuple[tuple[Verb, int], ...]

    @property
    def key(self) -> str:
        """The numbers and what happens: persons and things do not make another problem."""
        return f"{self.start} {[(verb.phrase, k) for verb, k in self.events]}"

    @property
    def question(self) -> str:
        """What is asked."""
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
    """Write a calculation out, one step a time.

    Args:
        start: One number, or two to be multiplied.
        changes: What is added, or taken away where negative.
    """
    steps = []
    total = start[0]
    if len(start) == 2:
        total = start[0] * start[1]
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


def rows(split: Split, seed: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Rows with the columns of OpenR1-Math.

    Args:
        split: Numbers and events of the two splits are disjoint, whoever they happen to.
        seed: Another seed draws other rows of the same split.
        count: How many; by default as many as the embedded data set has.
    """
    return [_row(problem) for problem in distinct(draw, split, seed, count or ROWS[split])]


def _row(problem: MathProblem) -> dict[str, Any]:
    solution = ", ".join(text for text, _ in problem.steps)
    return {
        "problem": problem.question,
        "solution": solution,
        "answer": str(problem.steps[-1][1]),
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "embedded",
        "uuid": uid_of(problem.key),
        "is_reasoning_complete": [True],
        "generations": [f"<think>{solution}</think>\\boxed{{{problem.steps[-1][1]}}}"],
        "correctness_math_verify": [True],
        "correctness_llama": [True],
        "finish_reasons": ["stop"],
        "correctness_count": 1,
        "messages": [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": solution},
        ],
    }
