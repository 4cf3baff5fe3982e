"""The math task: word problems with a gold answer."""

from __future__ import annotations

import random
from typing import Any, final

from omnithink_pl.prompts import render
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example


@final
class Math(Task):
    """Solve a word problem; the answer must equal the gold answer symbolically.

    Args:
        source: Training and held-out problems with their gold answers.
        workers: Processes that verify answers.
        timeout: Seconds one verification may take.
        template: Template of the user's message: its name in the package, or a file.
        common: See :class:`Task`.
    """

    name = "math"
    metric = "accuracy"
    reference_type = str

    def __init__(
        self, source: Source, workers: int = 1, timeout: float = 5.0, template: str = "math_v1", **common: Any
    ) -> None:
        super().__init__(source, reward=MathReward(workers, timeout), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the problem, and ask for its result only."""
        return render(self.template, question=example.question)
