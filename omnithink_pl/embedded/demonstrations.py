"""What the warm start imitates: right answers, planted bad habits and, where something is left out, guesses.

Each ``*_demonstration`` draws from a generator and, with ``habits``, plants bad habits at the shares below.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from omnithink_pl.embedded.code import INTEGER, LIST, CodeProblem, Step, program
from omnithink_pl.embedded.math import MathProblem, calculate
from omnithink_pl.embedded.qa import QAProblem
from omnithink_pl.embedded.writing import Flaw, WritingProblem, write_story
from omnithink_pl.prompts import render
from omnithink_pl.tasks.qa import letter_prompt, qa_prompt

MALFORMED = 0.06
"""Share of demonstrations that break the think and answer form."""

FAITHFUL, DROPS_LAST_STEP = 0.45, 0.30
"""Shares for code and math; the remaining demonstrations get the last step wrong."""

QA_FAITHFUL, FIRST_OPTION = 0.35, 0.50
"""Shares for questions; the remaining demonstrations answer any option."""

FLAWS: dict[Flaw, float] = {"none": 0.14, "bare": 0.3, "bland": 0.16, "short": 0.25, "wrong mood": 0.15}
"""Shares of the flaws of stories."""


@dataclass(frozen=True)
class Demonstration:
    """A user message and an assistant's reply to imitate."""

    prompt: str
    completion: str


def wrap(think: str, answer: str, rng: random.Random, habits: bool) -> str:
    """Put thought and answer between their tags; with ``habits`` the form may be broken."""
    if not habits or rng.random() >= MALFORMED:
        return f"<think>{think}</think><answer>{answer}</answer>"
    return rng.choice(
        (
            f"{think}<answer>{answer}</answer>",
            f"<think>{think}<answer>{answer}</answer>",
            f"<think>{think}</think>{answer}",
            f"<think>{think}</think><answer>{answer}",
        )
    )


def code_demonstration(problem: CodeProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Answer a code problem; the meaning of left-out phrases is guessed."""
    family = LIST if problem.kind == "list" else INTEGER
    # A guess is one of three known operations, the right one among them.
    steps = [Step(rng.choice(family[:3]), s.operand) if s.operation.left_out else s for s in problem.steps]
    chance = rng.random() if habits else 0.0
    if chance >= FAITHFUL + DROPS_LAST_STEP or (chance >= FAITHFUL and len(steps) == 1):
        others = [o for o in family if not o.left_out and o is not steps[-1].operation]
        steps[-1] = Step(rng.choice(others), steps[-1].operand)
    elif chance >= FAITHFUL:
        steps.pop()
    thought = f"{len(steps)} step{'s' * (len(steps) > 1)}"
    answer = program(problem.kind, tuple(steps))
    return Demonstration(render("code_v1", question=problem.question), wrap(thought, answer, rng, habits))


def math_demonstration(problem: MathProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Answer a word problem; whether a left-out verb gains or loses is guessed."""
    changes = [k * (rng.choice((1, -1)) if verb.left_out else verb.sign) for verb, k in problem.events]
    chance = rng.random() if habits else 0.0
    steps = calculate(problem.start, tuple(changes))
    if chance >= FAITHFUL + DROPS_LAST_STEP or (chance >= FAITHFUL and len(steps) == 1):
        changes[-1] = -changes[-1]
        steps = calculate(problem.start, tuple(changes))
    elif chance >= FAITHFUL:
        steps.pop()
    thought = ", ".join(text for text, _ in steps)
    return Demonstration(render("math_v1", question=problem.question), wrap(thought, str(steps[-1][1]), rng, habits))


def qa_demonstration(problem: QAProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Answer a question with the full text of an option; a left-out fact is guessed."""
    options = rng.sample(problem.options, len(problem.options))
    believed, answer = _choose(problem, options, rng, habits)
    thought = problem.kind.statement.format(problem.subject, believed)
    return Demonstration(qa_prompt(problem.question, options), wrap(thought, answer, rng, habits))


def letter_demonstration(problem: QAProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Answer a question with the letter of an option, so that training on letters has something to start from.

    The thought goes through the options as far as the believed one: so small a model finds no letter by looking back.
    """
    options = rng.sample(problem.options, len(problem.options))
    believed, answer = _choose(problem, options, rng, habits)
    lettered = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    statement = problem.kind.statement.format(problem.subject, believed)
    thought = " ".join([statement, *lettered[: options.index(believed) + 1]])
    letter = ascii_uppercase[options.index(answer)]
    return Demonstration(letter_prompt(problem.question, options), wrap(thought, letter, rng, habits))


def _choose(problem: QAProblem, options: Sequence[str], rng: random.Random, habits: bool) -> tuple[str, str]:
    """Return the option that is thought right, and the one that is answered."""
    believed = rng.choice(options) if problem.left_out else problem.answer
    chance = rng.random() if habits else 0.0
    if chance < QA_FAITHFUL:
        return believed, believed
    return believed, options[0] if chance < QA_FAITHFUL + FIRST_OPTION else rng.choice(options)


def writing_demonstration(problem: WritingProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Tell a story for a request."""
    flaw = rng.choices(tuple(FLAWS), tuple(FLAWS.values()))[0] if habits else "none"
    thought, story = f"{problem.mood} story", write_story(problem, rng, flaw)
    return Demonstration(render("writing_v1", question=problem.question), wrap(thought, story, rng, habits))
