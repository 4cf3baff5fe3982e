"""Unit tests as data sets give them, and whether a program's output is the expected one."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from omnithink_pl.types import UnitTests

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,3})?|[+-]?\.\d+([eE][+-]?\d{1,3})?")
_TOLERANCE = 1e-6  # absolute below 1, relative above: what judging sites commonly grant


def parse_tests(tests: UnitTests | Mapping[str, Any] | str) -> UnitTests:
    """Unit tests from code-r1's JSON.

    Args:
        tests: ``{"functional": asserts}`` or ``{"inputs": [...], "outputs": [...]}``, as a mapping or as text.

    Raises:
        ValueError: If it is neither, or has not one output per input.
    """
    if isinstance(tests, str):
        tests = json.loads(tests)
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
    """What tests need that is neither Python's own nor among the packages."""
    return [name for name in tests.packages if name not in sys.stdlib_module_names and name not in packages]


def same_output(output: str, expected: str) -> bool:
    """Whether a program printed what it should.

    White space at the ends of lines and of the whole does not count. Where a line differs, its words are
    compared: a floating-point number may differ by 1e-6, absolute or relative, and ``3.0`` is ``3``.
    """
    if output.strip() == expected.strip():
        return True
    lines, wanted = output.strip().split("\n"), expected.strip().split("\n")
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
    if not _is_float(expected):  # an integer is wanted exactly
        return _is_float(word) and Decimal(word) == Decimal(expected)
    return math.isclose(float(word), float(expected), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _is_float(word: str) -> bool:
    return not word.lstrip("+-").isdigit()
