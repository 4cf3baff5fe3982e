"""The sandbox as a function, for use outside training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from omnithink_pl.sandbox.base import Verdict
from omnithink_pl.sandbox.hardened import HardenedSandbox
from omnithink_pl.types import UnitTests


def run(program: str, tests: UnitTests | Mapping[str, Any] | str) -> Verdict:
    """Run a program against its tests, with the default limits, sealed as well as this machine allows.

    Args:
        program: Python source.
        tests: code-r1's JSON, as text or as a mapping: ``{"functional": asserts}`` or
            ``{"inputs": [...], "outputs": [...]}``.

    Raises:
        ValueError: If the tests are unusable.
        BadInput: If there is no safe way to run programs here; says what to do.

    Example:
        >>> run("print(int(input()) + 1)", {"inputs": ["1"], "outputs": ["2"]}).passed
        True
    """
    return default_sandbox().run(program, tests)


@cache
def default_sandbox() -> HardenedSandbox:
    """The sandbox behind :func:`run`: made at the first use, since a warm one costs a tenth of a fresh one."""
    return HardenedSandbox()
