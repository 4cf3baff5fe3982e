"""Worker process that asks a checker; started by :mod:`omnithink_pl.rewards.checker`, it imports nothing of ours.

A job is one program: ``{"cases": [[input, output, expected], ...]}``. The reply is ``["right"]``, ``["wrong"]``, or
``["unusable", why]`` where the checker raised an error of its own: for the expected output too, or, where there is
none, one that no text explains.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

_STUMBLES = (ValueError, LookupError, ArithmeticError, AssertionError)


def main(checker: Callable[..., Any], takes_expected: bool, memory_mb: int) -> None:
    """Answer jobs until input ends. What the checker prints is discarded."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if sys.platform == "linux":  # other kernels do not have this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    print("ready", file=replies, flush=True)
    for line in sys.stdin.buffer:
        cases = json.loads(line)["cases"]
        print(json.dumps(examine(checker, takes_expected, cases)), file=replies, flush=True)


def examine(checker: Callable[..., Any], takes_expected: bool, cases: Sequence[Sequence[str]]) -> list[str]:
    """Return what the checker says of a program's outputs, up to the first that is not right."""
    for given, output, expected in cases:
        ask = partial(_ask, checker, takes_expected, given, expected)
        try:
            is_right = ask(output)
        except Exception as error:  # noqa: BLE001  (a checker may stumble over what a program prints, or be broken)
            if not _is_due_to_output(error, ask, expected):
                return ["unusable", f"the checker raises {type(error).__name__}: {error}"[:200]]
            is_right = False
        if not is_right:
            return ["wrong"]
    return ["right"]


def _is_due_to_output(error: Exception, ask: Callable[[str], bool], expected: str) -> bool:
    """Return whether an error says something of the program: the checker can do with the expected output.

    Where none is given, only what reading a text can raise counts as the program's.
    """
    if not expected.strip():
        return isinstance(error, _STUMBLES)
    try:
        ask(expected)
    except Exception:  # noqa: BLE001  (the error is the checker's own)
        return False
    return not isinstance(error, MemoryError)  # our limit


def _ask(checker: Callable[..., Any], takes_expected: bool, given: str, expected: str, output: str) -> bool:
    verdict = checker(given, output, expected) if takes_expected else checker(given, output)
    if verdict is None:
        raise TypeError("it returns None, neither True nor False")
    return bool(verdict)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    sys.path[:] = settings["path"]
    main(pickle.loads(base64.b64decode(settings["checker"])), settings["takes_expected"], settings["memory_mb"])
