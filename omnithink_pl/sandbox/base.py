"""The seam between a code reward and whatever runs untrusted programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from omnithink_pl.types import UnitTests


class RunOutcome(StrEnum):
    """How the run of a program against its tests ended."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong answer"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output limit"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a sandbox found out about a program.

    Args:
        outcome: How it ended; ``REFUSED`` when the sandbox itself could not run it.
        passed_tests: Tests passed before the first failure.
        total_tests: Tests there were.
        stderr: The end of what the program wrote to standard error.
        seconds: Wall-clock time.
    """

    outcome: RunOutcome
    passed_tests: int = 0
    total_tests: int = 0
    stderr: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.outcome is RunOutcome.PASSED


class Sandbox(Protocol):
    """Runs untrusted programs against unit tests."""

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        """Run each (program, tests) and return a verdict each, in order."""
        ...

    def close(self) -> None:
        """End all processes. Safe to call twice."""
        ...


@runtime_checkable
class MeasuredSandbox(Sandbox, Protocol):
    """A sandbox that knows how fast it works."""

    def metrics(self) -> dict[str, float]:
        """What it measured since it was last asked, by name."""
        ...
