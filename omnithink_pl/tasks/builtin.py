"""The four tasks of the paper: code, math, question answering and creative writing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import Judge
from omnithink_pl.prompts import render
from omnithink_pl.rewards.code import CodeReward
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.rewards.qa import LetterReward, QAReward
from omnithink_pl.rewards.writing import WritingReward
from omnithink_pl.sandbox.base import Sandbox
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Options

if TYPE_CHECKING:
    from omnithink_pl.types import Example


@final
class Code(Task):
    """Write a function or a program that passes hidden unit tests.

    Args:
        source: Training and held-out problems with their unit tests.
        sandbox: Runs the programs.
        template: Template of the user's message: its name in the package, or a file.
        common: See :class:`Task`.
    """

    name: ClassVar[str] = "code"
    metric: ClassVar[str] = "pass_at_1"

    def __init__(self, source: Source, sandbox: Sandbox, template: str = "code_v1", **common: Any) -> None:
        super().__init__(source, reward=CodeReward(sandbox), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the problem, which says whether a function or a program is wanted, and ask for code."""
        return render(self.template, question=example.question)


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

    name: ClassVar[str] = "math"
    metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        source: Source,
        workers: int = 1,
        timeout: float = 5.0,
        template: str = "math_v1",
        **common: Any,
    ) -> None:
        super().__init__(source, reward=MathReward(workers, timeout), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the problem, and ask for its result only."""
        return render(self.template, question=example.question)


@final
class QA(Task):
    """Choose the right option, and repeat its text or name its letter.

    Args:
        source: Training and held-out questions with their options.
        answer: The answer that is asked for: the full ``text`` of an option, the paper's choice, or its ``letter``.
        common: See :class:`Task`.
    """

    name: ClassVar[str] = "qa"
    metric: ClassVar[str] = "exact_match"

    def __init__(self, source: Source, answer: Literal["text", "letter"] = "text", **common: Any) -> None:
        super().__init__(source, reward=LetterReward() if answer == "letter" else QAReward(), **common)
        self.answer = answer

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the question with its options.

        Raises:
            BadInput: If the source gives no options.
        """
        if not isinstance(example.reference, Options):
            raise BadInput(f"data.tasks.qa.source: example {example.uid} has no options; use a multiple-choice source")
        prompt = letter_prompt if self.answer == "letter" else qa_prompt
        return prompt(example.question, example.reference.texts)


def qa_prompt(question: str, options: Sequence[str]) -> str:
    """Return the user's message; options have neither letters nor numbers, so the answer is their text."""
    return render("qa_v1", question=question, options=options)


def letter_prompt(question: str, options: Sequence[str]) -> str:
    """Return the user's message where the answer is a letter.

    Raises:
        BadInput: If there are more options than letters.
    """
    if len(options) > len(ascii_uppercase):
        raise BadInput(f"data.tasks.qa: {len(options)} options are more than there are letters; use answer: text")
    return render("qa_letter_v1", question=question, options=list(zip(ascii_uppercase, options, strict=False)))


@final
class Writing(Task):
    """Write what the prompt asks for; a judge must prefer the text to the reference.

    Args:
        source: Training and held-out prompts with a reference text each.
        judge: Compares an answer with the reference.
        template: Template of the user's message: its name in the package, or a file.
        common: See :class:`Task`.
    """

    name: ClassVar[str] = "writing"
    metric: ClassVar[str] = "win_rate"

    def __init__(self, source: Source, judge: Judge, template: str = "writing_v1", **common: Any) -> None:
        super().__init__(source, reward=WritingReward(judge), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the prompt as the data set has it."""
        return render(self.template, question=example.question)
