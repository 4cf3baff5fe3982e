"""Small programs with their tests, and waiting for the end of other processes."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests

ADD = UnitTests(inputs=("1 2\n", "3 4\n"), outputs=("3", "7"))
SUM = UnitTests(functional="def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\ncheck(Solution().total)")
PRINT_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
SOLUTION = "class Solution:\n    def total(self, xs: List[int]) -> int:\n        return sum(xs)\n"
SLEEP = "import time\ntime.sleep(1000)"


def boxes(sandbox: HardenedSandbox) -> list[int]:
    found = [box for pair in sandbox._pairs for box in (pair._program, pair._judge) if box is not None]
    return [box._process.pid for box in found]


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds, as Ctrl-C does, and expect that it lets that through."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with pytest.raises(KeyboardInterrupt):
        yield
    signal.signal(signal.SIGALRM, previous)


def all_end(pids: Iterable[int]) -> bool:
    """Return whether all these processes end within 20 seconds each; they need not be our children."""
    for pid in pids:
        with suppress(ProcessLookupError), open(os.pidfd_open(pid)) as handle:  # noqa: PTH123 - a descriptor
            if not select.select([handle], [], [], 20)[0]:
                return False
    return True
