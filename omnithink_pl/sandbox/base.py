"""Interface between a code reward and a sandbox, the unit tests that cross it, and the comparison of outputs."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from omnithink_pl.types import UnitTests

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,3})?|[+-]?\.\d+([eE][+-]?\d{1,3})?")
_TOLERANCE = 1e-6  # absolute below 1, relative above: as judging sites commonly allow


class RunOutcome(StrEnum):
    """Outcome of running a program against its tests."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong answer"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output limit"
    UNDEFINED = "undefined"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of running a program against its tests."""

    outcome: RunOutcome  # ``REFUSED`` if the sandbox could not run it, ``UNDEFINED`` if its test has no verdict here
    passed_tests: int = 0  # before the first failure
    total_tests: int = 0
    stderr: str = ""  # the end of it
    seconds: float = 0.0  # by the clock
    outputs: tuple[str, ...] = ()  # of each input, where the tests leave their comparison to others

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.outcome is RunOutcome.PASSED


@runtime_checkable  # or jsonargparse cannot resolve the **kwargs of a class that takes one
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
    """A sandbox that measures its throughput."""

    def metrics(self) -> dict[str, float]:
        """Return metrics since the last call, by name."""
        ...


def parse_tests(tests: UnitTests | Mapping[str, Any] | str) -> UnitTests:
    """Return unit tests from code-r1's JSON: ``{"functional": asserts}`` or ``{"inputs": [...], "outputs": [...]}``.

    Raises:
        ValueError: If it is neither, or has not one output per input.
    """
    tests = json.loads(tests) if isinstance(tests, str) else tests
    if isinstance(tests, Mapping):
        if not tests.keys() & {"functional", "inputs", "outputs"}:
            raise ValueError("unit tests have 'functional', or 'inputs' and 'outputs'; there is neither")
        tests = UnitTests(
            inputs=tuple(map(_text, tests.get("inputs") or ())),
            outputs=tuple(map(_text, tests.get("outputs") or ())),
            functional=tests.get("functional") or "",
            entry_point=tests.get("entry_point") or "",
        )
    if not isinstance(tests, UnitTests):
        raise ValueError(f"unit tests are UnitTests, a mapping or its JSON, not {type(tests).__name__}")
    if not tests.functional and len(tests.inputs) != len(tests.outputs):
        raise ValueError(
            f"a problem has {len(tests.inputs)} inputs and {len(tests.outputs)} outputs; give each its own"
        )
    return tests


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def lacking_packages(tests: UnitTests, packages: Collection[str]) -> list[str]:
    """Return the packages that tests need and that are neither Python's own nor among those given."""
    return [name for name in tests.packages if name not in sys.stdlib_module_names and name not in packages]


def same_output(output: str, expected: str) -> bool:
    """Return whether a program's output is as expected.

    White space at the ends of lines and of the whole does not count, nor does a byte order mark at the beginning.
    Where a line differs, its words are compared: a floating-point number may differ by 1e-6, absolute or relative,
    and ``3.0`` is ``3``.
    """
    lines, wanted = (text.removeprefix("\ufeff").strip().split("\n") for text in (output, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _same_line(line: str, expected: str) -> bool:
    if line.rstrip() == expected.rstrip():
        return True
    words, wanted = line.split(), expected.split()
    return len(words) == len(wanted) and all(map(_same_word, words, wanted))


def _same_word(word: str, expected: str) -> bool:
    if word == expected:
        return True
    if max(len(word), len(expected)) > 400 or not (_NUMBER.fullmatch(word) and _NUMBER.fullmatch(expected)):
        return False
    if expected.lstrip("+-").isdigit():  # an integer is wanted exactly
        return not word.lstrip("+-").isdigit() and Decimal(word) == Decimal(expected)
    return math.isclose(float(word), float(expected), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
