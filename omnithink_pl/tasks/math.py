"""Mathematics: an answer is paid when it equals the gold answer symbolically."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.prompts import render
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task

if TYPE_CHECKING:
    from omnithink_pl.types import Example


def math_prompt(question: str, template: str = "math_v1") -> str:
    """The user's message."""
    return render(template, question=question)


@final
class Math(Task):
    """Solve a word problem.

    Args:
        source: Training and held-out problems with their gold answers.
        workers: Processes that verify answers.
        timeout: Seconds one verification may take.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        template: Of the user's message, likewise.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
    """

    name: ClassVar[str] = "math"
    metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        source: Source,
        workers: int = 1,
        timeout: float = 5.0,
        system_prompt: str = SYSTEM_PROMPT,
        template: str = "math_v1",
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
    ) -> None:
        reward = MathReward(workers=workers, timeout=timeout)
        super().__init__(source, reward, system_prompt, format_weight, tags_weight)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """The problem, and that only its result is wanted."""
        return math_prompt(example.question, self.template)
