from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from omnithink_pl.sandbox import RunOutcome
from omnithink_pl.types import UnitTests

_SECTION = re.compile(r"^--- (program|test|entry point|input|output)\n", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A program, its tests, and the outcomes that are as wanted."""

    name: str
    program: str
    tests: UnitTests
    wanted: tuple[RunOutcome, ...]


def script(name: str, program: str, stdin: str, output: str, *wanted: RunOutcome) -> Case:
    """A program with one input."""
    return Case(name, program, UnitTests(inputs=(stdin,), outputs=(output,)), wanted or (RunOutcome.PASSED,))


def read(name: str) -> list[Case]:
    """The cases of a text file beside this one."""
    text = (Path(__file__).parent / f"{name}.txt").read_text()
    return [_case(entry) for entry in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]]


def _case(entry: str) -> Case:
    head, *rest = _SECTION.split(entry)
    name, wanted = head.splitlines()
    sections: dict[str, list[str]] = {}
    for kind, content in zip(rest[::2], rest[1::2], strict=True):
        sections.setdefault(kind, []).append(content.strip("\n"))
    tests = UnitTests(
        inputs=tuple(f"{content}\n" if content else "" for content in sections.get("input", ())),
        outputs=tuple(sections.get("output", ())),
        functional=sections.get("test", [""])[0],
        entry_point=sections.get("entry point", [""])[0],
    )
    outcomes = tuple(RunOutcome(outcome) for outcome in wanted.removeprefix("wanted: ").split(", "))
    return Case(name, sections["program"][0], tests, outcomes)
