"""The creative-writing task: texts that a judge prefers to a reference."""

from __future__ import annotations

import random
from typing import Any, final

from omnithink_pl.judge.base import Judge
from omnithink_pl.prompts import render
from omnithink_pl.rewards.writing import WritingReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example


@final
class Writing(Task):
    """Write what the prompt asks for; a judge must prefer the text to the reference.

    Args:
        source: Training and held-out prompts with a reference text each.
        judge: Compares an answer with the reference.
        template: Template of the user's message: its name in the package, or a file.
        common: See :class:`Task`.
    """

    name = "writing"
    metric = "win_rate"
    reference_type = str

    def __init__(self, source: Source, judge: Judge, template: str = "writing_v1", **common: Any) -> None:
        super().__init__(source, reward=WritingReward(judge), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the prompt as the data set has it."""
        return render(self.template, question=example.question)
