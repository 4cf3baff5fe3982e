"""Demonstrations of the writing task: most stories have a flaw."""

from __future__ import annotations

import random

from omnithink_pl.embedded.demonstrations.form import Demonstration, wrap
from omnithink_pl.embedded.story import Flaw, WritingProblem, tell
from omnithink_pl.tasks.writing import writing_prompt

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
        writing_prompt(problem.question), wrap(f"{problem.mood} story", tell(problem, rng, flaw), rng, habits)
    )
