"""Question answering: an answer is paid when it is a right option, by its full text or by its letter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, ClassVar, Literal, final

from omnithink_pl.errors import BadInput
from omnithink_pl.prompts import render
from omnithink_pl.rewards.qa import LetterReward, QAReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task
from omnithink_pl.types import Options

if TYPE_CHECKING:
    from omnithink_pl.types import Example


def qa_prompt(question: str, options: Sequence[str]) -> str:
    """The user's message: options bear neither letters nor numbers, so the answer is their text."""
    return render("qa_v1", question=question, options=options)


def letter_prompt(question: str, options: Sequence[str]) -> str:
    """The user's message where the answer is a letter.

    Raises:
        BadInput: If there are more options than letters.
    """
    if len(options) > len(ascii_uppercase):
        raise BadInput(f"data.tasks.qa: {len(options)} options are more than there are letters; use answer: text")
    return render("qa_letter_v1", question=question, options=list(zip(ascii_uppercase, options, strict=False)))


@final
class QA(Task):
    """Choose the right option, and repeat its text or name its letter.

    Args:
        source: Training and held-out questions with their options.
        system_prompt: Template that asks for the think and answer segments: its name in the package, or a file.
        format_weight: Weight of the format reward; the paper has 0.1.
        tags_weight: Weight of the tags reward; the paper has 0.1.
        answer: What is asked for and paid: the full ``text`` of an option, the paper's choice, or its ``letter``.
    """

    name: ClassVar[str] = "qa"
    metric: ClassVar[str] = "exact_match"

    def __init__(
        self,
        source: Source,
        system_prompt: str = SYSTEM_PROMPT,
        format_weight: float = 0.1,
        tags_weight: float = 0.1,
        answer: Literal["text", "letter"] = "text",
    ) -> None:
        reward = LetterReward() if answer == "letter" else QAReward()
        super().__init__(source, reward, system_prompt, format_weight, tags_weight)
        self.answer = answer

    def ask(self, example: Example, rng: random.Random) -> str:
        """The question with its options.

        Raises:
            BadInput: If the source gives no options.
        """
        if not isinstance(example.reference, Options):
            raise BadInput(f"data.tasks.qa.source: example {example.uid} has no options; use a multiple-choice source")
        prompt = letter_prompt if self.answer == "letter" else qa_prompt
        return prompt(example.question, example.reference.texts)
