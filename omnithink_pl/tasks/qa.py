"""Question answering: an answer is paid when it is the full text of a right option."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.prompts import render
from omnithink_pl.rewards.qa import QAReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task
from omnithink_pl.types import Options

if TYPE_CHECKING:
    from omnithink_pl.types import Example


def qa_prompt(question: str, options: Sequence[str]) -> str:
    """The user's message: options bear neither letters nor numbers, so the answer is their text."""
    return render("qa_v1", question=question, options=options)


@final
class QA(Task):
    """Choose the right option and repeat its text.

    Args:
        source: Training and held-out questions with their options.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
    """

    name: ClassVar[str] = "qa"
    metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        source: Source,
        system_prompt: str = SYSTEM_PROMPT,
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
    ) -> None:
        super().__init__(source, QAReward(), system_prompt, format_weight, tags_weight)

    def ask(self, example: Example, rng: random.Random) -> str:
        """The question with its options in an order drawn for this example.

        Raises:
            TypeError: If the source gives no options.
        """
        if not isinstance(example.reference, Options):
            raise TypeError(f"data.tasks.qa.source: example {example.uid} has no options; use a multiple-choice source")
        options = rng.sample(example.reference.texts, len(example.reference.texts))
        return qa_prompt(example.question, options)
