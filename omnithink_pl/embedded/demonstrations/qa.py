"""Demonstrations of the QA task: the thought is right, the answer is often just the first option."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_uppercase

from omnithink_pl.embedded.demonstrations.form import Demonstration, wrap
from omnithink_pl.embedded.qa import QAProblem
from omnithink_pl.tasks.qa import letter_prompt, qa_prompt

FAITHFUL, FIRST_OPTION = 0.35, 0.50
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
    answer = believed if chance < FAITHFUL else options[0] if chance < FAITHFUL + FIRST_OPTION else rng.choice(options)
    return believed, answer


def _statement(problem: QAProblem, believed: str) -> str:
    return problem.kind.statement.format(problem.subject, believed)
