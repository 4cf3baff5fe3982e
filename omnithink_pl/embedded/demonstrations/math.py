"""Demonstrations of the math task: half of them stop a step early or take the wrong sign."""

from __future__ import annotations

import random

from omnithink_pl.embedded.demonstrations.form import Demonstration, wrap
from omnithink_pl.embedded.math import MathProblem, calculate
from omnithink_pl.tasks.math import math_prompt

FAITHFUL, STOPS_EARLY = 0.45, 0.30
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
    if chance >= FAITHFUL + STOPS_EARLY or (chance >= FAITHFUL and len(steps) == 1):
        changes[-1] = -changes[-1]
        steps = calculate(problem.start, tuple(changes))
    elif chance >= FAITHFUL:
        steps.pop()
    thought = ", ".join(text for text, _ in steps)
    return Demonstration(math_prompt(problem.question), wrap(thought, str(steps[-1][1]), rng, habits))
