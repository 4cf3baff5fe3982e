"""Programming: a program is paid when it passes every unit test."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.prompts import render
from omnithink_pl.rewards.code import CodeReward
from omnithink_pl.sandbox.base import Sandbox
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task

if TYPE_CHECKING:
    from omnithink_pl.types import Example


def code_prompt(question: str, template: str = "code_v1") -> str:
    """The user's message. It fits functions and whole programs alike: the question says which."""
    return render(template, question=question)


@final
class Code(Task):
    """Write a function or a program that passes hidden unit tests.

    Args:
        source: Training and held-out problems with their unit tests.
        sandbox: Runs the programs.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        template: Of the user's message, likewise.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
    """

    name: ClassVar[str] = "code"
    metric: ClassVar[str] = "pass_at_1"

    def __init__(
        self,
        source: Source,
        sandbox: Sandbox,
        system_prompt: str = SYSTEM_PROMPT,
        template: str = "code_v1",
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
    ) -> None:
        super().__init__(source, CodeReward(sandbox), system_prompt, format_weight, tags_weight)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """The problem, and that code is wanted."""
        return code_prompt(example.question, self.template)
