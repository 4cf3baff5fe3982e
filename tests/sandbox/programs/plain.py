"""Verdicts of plain Python on programs with functional tests, as JSON: the reference for those of the sandbox.

Program and test share one namespace and one process, each pair a forked one; whatever ends the test early is a failure.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import types

from omnithink_pl.sandbox.inside import prelude

SECONDS = 5


def _passes(program: str, test: str) -> bool:
    main = types.ModuleType("__main__")
    sys.modules["solution"] = main  # as which a test may import the program
    sys.modules["__main__"] = main  # where unittest.main() looks for tests
    namespace = main.__dict__
    namespace.update(prelude.HELPERS, __name__="solution")
    exec(compile(program, "program.py", "exec", dont_inherit=True), namespace)
    namespace["__name__"] = "__main__"
    try:
        exec(compile(test, "tests.py", "exec", dont_inherit=True), namespace)
    except SystemExit as end:
        return not end.code and "unittest" in test
    return True


def _child(program: str, test: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    sys.argv = ["tests.py"]
    sys.setrecursionlimit(20_000)
    random.seed(0)
    passes = False
    try:
        passes = _passes(program, test)
    finally:
        os._exit(0 if passes else 1)


def main() -> None:
    """Read pairs of program and test from standard input and print the verdicts."""
    prelude.provide([])
    verdicts = []
    for program, test in json.load(sys.stdin):
        if (pid := os.fork()) == 0:
            _child(program, test)
        verdicts.append(os.waitpid(pid, 0)[1] == 0)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
