"""Demonstrations of the QA task: the thought is right, the answer is often just the first option."""

from __future__ import annotations

import random

from omnithink_pl.embedded.demonstrations.form import Demonstration, wrap
from omnithink_pl.embedded.qa import QAProblem
from omnithink_pl.tasks.qa import qa_prompt

FAITHFUL, FIRST_OPTION = 0.35, 0.50
"""Shares of faithful demonstrations and of those that answer the first option; the rest answer any."""


def qa_demonstration(problem: QAProblem, rng: random.Random, habits: bool) -> Demonstration:
    """Show an answer to a question; a fact that is left out is guessed at.

    Args:
        problem: What is asked.
        rng: Draws the order of the options, the habit and the guess.
        habits: Whether bad habits are planted.
    """
    options = rng.sample(problem.options, len(problem.options))
    believed = rng.choice(options) if problem.left_out else problem.answer
    chance = rng.random() if habits else 0.0
    answer = believed if chance < FAITHFUL else options[0] if chance < FAITHFUL + FIRST_OPTION else rng.choice(options)
    thought = problem.kind.statement.format(problem.subject, believed)
    return Demonstration(qa_prompt(problem.question, options), wrap(thought, answer, rng, habits))
