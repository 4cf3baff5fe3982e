"""The code task: programs that pass unit tests."""

from __future__ import annotations

import random
from typing import Any, final

from omnithink_pl.prompts import render
from omnithink_pl.rewards.checker import Checker
from omnithink_pl.rewards.code import CodeReward
from omnithink_pl.sandbox.base import Sandbox
from omnithink_pl.sources.base import Source
from omnithink_pl.tasks.base import Task
from omnithink_pl.types import Example, UnitTests


@final
class Code(Task):
    """Write a function or a program that passes hidden unit tests.

    Args:
        source: Training and held-out problems with their unit tests.
        sandbox: Runs the programs.
        checker: Says whether an output that is not the expected one is right too, for problems with several right
            outputs: a function of ``(input, output)`` or ``(input, output, expected)``. It runs outside the sandbox,
            with this user's rights.
        checker_timeout: Seconds that it may take for the outputs of one program.
        template: Template of the user's message: its name in the package, or a file.
        common: See :class:`Task`.
    """

    name = "code"
    metric = "pass_at_1"
    reference_type = UnitTests

    def __init__(
        self,
        source: Source,
        sandbox: Sandbox,
        checker: Checker | None = None,
        checker_timeout: float = 10.0,
        template: str = "code_v1",
        **common: Any,
    ) -> None:
        super().__init__(source, reward=CodeReward(sandbox, checker, checker_timeout), **common)
        self.template = template

    def ask(self, example: Example, rng: random.Random) -> str:
        """Return the problem, which says whether a function or a program is wanted, and ask for code."""
        return render(self.template, question=example.question)
