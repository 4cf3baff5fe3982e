"""Checkers of problems that have several right outputs, run in worker processes with limits on time and memory."""

from __future__ import annotations

import base64
import inspect
import json
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, TypeAlias, final

from omnithink_pl.errors import BadInput
from omnithink_pl.rewards.base import BAD_REFERENCE
from omnithink_pl.sandbox.workers import Lost, WorkerPool
from omnithink_pl.types import Outcome

Checker: TypeAlias = Callable[..., bool]
"""Tells whether an output is right: ``checker(input, output)`` or ``checker(input, output, expected)``."""

Case: TypeAlias = tuple[str, str, str]
"""Input, output and expected output of one test."""

_MEMORY_MB = 4096
_ATTEMPT = 0.5  # a job whose worker dies has a second attempt: two together keep to the limit


@final
class CheckerPool:
    """Asks a checker about the outputs of programs.

    The checker is ours and trusted; outputs are not, so that it may run for ever on one. Where it raises an error the
    output is wrong, or, if it does so for the expected output as well, the problem cannot be used. Where no output is
    expected, ``ValueError``, ``LookupError``, ``ArithmeticError`` and ``AssertionError`` make the output wrong, all
    others the problem unusable.

    Args:
        checker: A function of a module, or an instance of a class with ``__call__``, that workers can import.
        timeout: Seconds for the outputs of one program.
    """

    def __init__(self, checker: Checker, timeout: float) -> None:
        self.timeout = timeout
        settings = {
            "path": sys.path,
            "checker": base64.b64encode(_pickled(checker)).decode(),
            "takes_expected": _takes_expected(checker),
            "memory_mb": _MEMORY_MB,
        }
        # Run as a file and with -P: beside it lie a math.py and a code.py that would shadow Python's own.
        worker = str(files("omnithink_pl.rewards") / "checker_worker.py")
        self._pool = WorkerPool([sys.executable, "-P", worker, json.dumps(settings)], 1)

    def outcomes(self, programs: Sequence[Sequence[Case]]) -> list[Outcome]:
        """Return one outcome per program: 1 where the checker takes all of its outputs to be right."""
        jobs = [{"cases": cases} for cases in programs]
        return [_outcome(reply) for reply in self._pool.map(jobs, _ATTEMPT * self.timeout)]

    def close(self) -> None:
        """End the workers. Safe to call twice."""
        self._pool.close()


def _outcome(reply: list[str] | Lost) -> Outcome:
    match reply:
        case ["unusable", why]:
            return Outcome.undefined(f"{BAD_REFERENCE}: {why}")
        case [verdict]:
            return Outcome.of(verdict == "right")
    return Outcome.failed("checker timed out" if reply is Lost.TIMEOUT else "checker died")


def _takes_expected(checker: Checker) -> bool:
    signature = inspect.signature(checker)
    for arguments in (3, 2):
        try:
            signature.bind(*[""] * arguments)
        except TypeError:
            continue
        return arguments == 3
    raise _refusal(checker, f"takes {signature}, not input and output, or these and expected")


def _pickled(checker: Checker) -> bytes:
    if checker.__module__ == "__main__":
        raise _refusal(checker, "is defined in the main script; put it into a module of its own")
    try:
        return pickle.dumps(checker)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _refusal(checker, f"cannot be sent to a worker ({error}); use a function of a module") from error


def _refusal(checker: Any, why: str) -> BadInput:
    name = getattr(checker, "__qualname__", type(checker).__qualname__)
    return BadInput(f"data.tasks.code.checker: {name} {why}")
