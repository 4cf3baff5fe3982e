"""The question-answering task: multiple choice, answered by text or by letter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Literal, final

from omnithink_pl.errors import BadInput
from omnithink_pl.prompts import render
from omnithink_pl.rewards.qa import LetterReward, QAReward
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, Options


@final
class QA(Task):
    """Choose the right option, and repeat its text or name its letter.

    Args:
        source: Training and held-out questions with their options.
        answer: The answer that is asked for: the full ``text`` of an option, the paper's choice, or its ``letter``.
        common: See :class:`Task`.
    """

    name = "qa"
    metric = "exact_match"
    reference_type = Options

    def __init__(self, source: Source, answer: Literal["text", "letter"] = "text", **common: Any) -> None:
        super().__init__(source, reward=LetterReward() if answer == "letter" else QAReward(), **common)
        self.answer = answer

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the question with its options."""
        assert isinstance(example.reference, Options)  # checked before
        prompt = letter_prompt if self.answer == "letter" else qa_prompt
        return prompt(example.question, example.reference.texts)


def qa_prompt(question: str, options: Sequence[str]) -> str:
    """Return the user's message; options have neither letters nor numbers, so the answer is their text."""
    return render("qa_v1", question=question, options=options)


def letter_prompt(question: str, options: Sequence[str]) -> str:
    """Return the user's message where the answer is a letter; ``BadInput`` if there are more options than letters."""
    if len(options) > len(ascii_uppercase):
        raise BadInput(f"data.tasks.qa: {len(options)} options are more than there are letters; use answer: text")
    return render("qa_letter_v1", question=question, options=list(zip(ascii_uppercase, options, strict=False)))
