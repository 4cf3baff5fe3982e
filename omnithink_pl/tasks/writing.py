"""Creative writing: a text is paid when a judge prefers it to the reference."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.judge.base import Judge
from omnithink_pl.prompts import render
from omnithink_pl.rewards.writing import WritingReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task

if TYPE_CHECKING:
    from omnithink_pl.types import Example


def writing_prompt(question: str, template: str = "writing_v1") -> str:
    """The user's message: the prompt as the data set has it."""
    return render(template, question=question)


@final
class Writing(Task):
    """Write what the prompt asks for, better than the reference does.

    Args:
        source: Training and held-out prompts with a reference text each.
        judge: Compares an answer with the reference.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        template: Of the user's message, likewise.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
    """

    name: ClassVar[str] = "writing"
    metric: ClassVar[str] = "win_rate"

    def __init__(
        self,
        source: Source,
        judge: Judge,
        system_prompt: str = SYSTEM_PROMPT,
        template: str = "writing_v1",
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
    ) -> None:
        super().__init__(source, WritingReward(judge), system_prompt, format_weight, tags_weight)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """The prompt, unchanged."""
        return writing_prompt(example.question, self.template)
