"""Demonstrations of the code task: half of them leave the last operation out or get it wrong."""

from __future__ import annotations

import random

from omnithink_pl.embedded.code import CodeProblem, Step, program
from omnithink_pl.embedded.demonstrations.form import Demonstration, wrap
from omnithink_pl.embedded.operations import INTEGER, LIST, guesses
from omnithink_pl.tasks.code import code_prompt

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
    return Demonstration(code_prompt(problem.question), wrap(count, program(problem.kind, tuple(steps)), rng, habits))


def _guess(step: Step, rng: random.Random) -> Step:
    if not step.operation.left_out:
        return step
    return Step(rng.choice(guesses(step.operation)), step.operand)
