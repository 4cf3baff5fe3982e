"""What the warm start imitates: right answers, planted bad habits and, where something is left out, guesses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from omnithink_pl.embedded.code import INTEGER, LIST, CodeProblem, Step, guesses, program
from omnithink_pl.embedded.math import MathProblem, calculate
from omnithink_pl.embedded.qa import QAProblem
from omnithink_pl.embedded.writing import Flaw, WritingProblem, tell
from omnithink_pl.prompts import render
from omnithink_pl.tasks.builtin import letter_prompt, qa_prompt

SLIPS = 0.06
"""Share of demonstrations that break the form."""


@dataclass(frozen=True)
class Demonstration:
    """A user message and an assistant's reply to imitate."""

    prompt: str
    completion: str


def wrap(think: str, answer: str, rng: random.Random, slips: bool) -> str:
    """Put thinking and answer between their tags.

    Args:
        think: What goes between the think tags.
        answer: What goes between the answer tags.
        rng: Draws whether, and how, the form is broken.
        slips: Whether it may be broken at all.
    """
    if not slips or rng.random() >= SLIPS:
        return f"<think>{think}</think><answer>{answer}</answer>"
    return rng.choice(
        (
            f"{think}<answer>{answer}</answer>",
            f"<think>{think}<answer>{answer}</answer>",
            f"<think>{think}</think>{answer}",
            f"<think>{think}</think><answer>{answer}",
        )
    )


FAITHFUL, DROPS_LAST = 0.45, 0.30
"""Shares of faithful demonstrations and of those without the last step; the rest get it wrong."""


def code_demonstration(problem: CodeProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Show an answer to a code problem; phrases that are left out are guessed at.

    Args:
        problem: What is asked.
        rng: Draws the habit and the guesses.
        habits: Whether bad habits are planted.
    """
    steps = [_guess(step, rng) for step in problem.steps]
    chance = rng.random() if habits else 0.0
    if chance >= FAITHFUL + DROPS_LAST or (chance >= FAITHFUL and len(steps) == 1):
        family = LIST if problem.kind == "list" else INTEGER
        others = [o for o in family if not o.left_out and o is not steps[-1].operation]
        steps[-1] = Step(rng.choice(others), steps[-1].operand)
    elif chance >= FAITHFUL:
        steps.pop()
    count = f"{len(steps)} step{'s' * (len(steps) > 1)}"
    return Demonstration(
        render("code_v1", question=problem.question), wrap(count, program(problem.kind, tuple(steps)), rng, habits)
    )


def _guess(step: Step, rng: random.Random) -> Step:
    if not step.operation.left_out:
        return step
    return Step(rng.choice(guesses(step.operation)), step.operand)


MATH_FAITHFUL, STOPS_EARLY = 0.45, 0.30
"""Shares of faithful demonstrations and of those without the last step; the rest get its sign wrong."""


def math_demonstration(problem: MathProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Show an answer to a word problem; whether a left-out verb gains or loses is guessed at.

    Args:
        problem: What is asked.
        rng: Draws the habit and the guesses.
        habits: Whether bad habits are planted.
    """
    changes = [k * (rng.choice((1, -1)) if verb.left_out else verb.sign) for verb, k in problem.events]
    chance = rng.random() if habits else 0.0
    steps = calculate(problem.start, tuple(changes))
    if chance >= MATH_FAITHFUL + STOPS_EARLY or (chance >= MATH_FAITHFUL and len(steps) == 1):
        changes[-1] = -changes[-1]
        steps = calculate(problem.start, tuple(changes))
    elif chance >= MATH_FAITHFUL:
        steps.pop()
    thought = ", ".join(text for text, _ in steps)
    return Demonstration(render("math_v1", question=problem.question), wrap(thought, str(steps[-1][1]), rng, habits))


QA_FAITHFUL, FIRST_OPTION = 0.35, 0.50
"""Shares of faithful demonstrations and of those that answer the first option; the rest answer any."""


def qa_demonstration(problem: QAProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Show an answer to a question, in the full text of an option; a fact that is left out is guessed at.

    Args:
        problem: What is asked.
        rng: Draws the order of the options, the habit and the guess.
        habits: Whether bad habits are planted.
    """
    options = rng.sample(problem.options, len(problem.options))
    believed, answer = _choose(problem, options, rng, habits)
    thought = _statement(problem, believed)
    return Demonstration(qa_prompt(problem.question, options), wrap(thought, answer, rng, habits))


def letter_demonstration(problem: QAProblem, rng: random.Random, habits: bool) -> Demonstration:
    """The same with the letter of an option as the answer, so that training on letters has something to start from.

    The thought goes through the options as far as the believed one: so small a model finds no letter by looking back.

    Args:
        problem: What is asked.
        rng: Draws the order of the options, the habit and the guess.
        habits: Whether bad habits are planted.
    """
    options = rng.sample(problem.options, len(problem.options))
    believed, answer = _choose(problem, options, rng, habits)
    looked_at = [f"{ascii_uppercase[place]}. {option}" for place, option in enumerate(options)]
    thought = " ".join([_statement(problem, believed), *looked_at[: options.index(believed) + 1]])
    letter = ascii_uppercase[options.index(answer)]
    return Demonstration(letter_prompt(problem.question, options), wrap(thought, letter, rng, habits))


def _choose(problem: QAProblem, options: Sequence[str], rng: random.Random, habits: bool) -> tuple[str, str]:
    """The option that is thought right, and the one that is answered."""
    believed = rng.choice(options) if problem.left_out else problem.answer
    chance = rng.random() if habits else 0.0
    answer = (
        believed if chance < QA_FAITHFUL else options[0] if chance < QA_FAITHFUL + FIRST_OPTION else rng.choice(options)
    )
    return believed, answer


def _statement(problem: QAProblem, believed: str) -> str:
    return problem.kind.statement.format(problem.subject, believed)


FLAWS: dict[Flaw, float] = {"none": 0.14, "bare": 0.3, "bland": 0.16, "short": 0.25, "wrong mood": 0.15}
"""Shares of stories without a flaw and with each flaw."""


def writing_demonstration(problem: WritingProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Show a story for a prompt.

    Args:
        problem: What is asked.
        rng: Draws the flaw and the story.
        habits: Whether stories have flaws.
    """
    flaw = rng.choices(tuple(FLAWS), tuple(FLAWS.values()))[0] if habits else "none"
    return Demonstration(
        render("writing_v1", question=problem.question),
        wrap(f"{problem.mood} story", tell(problem, rng, flaw), rng, habits),
    )
