"""Small programs with their tests, sandboxes to run them in, and waiting for the end of other processes."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.sandbox.tiers import Plan, Tier
from omnithink_pl.types import UnitTests

ADD = UnitTests(inputs=("1 2\n", "3 4\n"), outputs=("3", "7"))
SUM = UnitTests(functional="def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\ncheck(Solution().total)")
PRINT_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
SOLUTION = "class Solution:\n    def total(self, xs: List[int]) -> int:\n        return sum(xs)\n"
SLEEP = "import time\ntime.sleep(1000)"


def boxes(sandbox: HardenedSandbox) -> list[int]:
    found = [box for pair in sandbox._pairs for box in (pair._program, pair._judge) if box is not None]
    return [box._process.pid for box in found]


def unsealed() -> HardenedSandbox:
    sandbox = HardenedSandbox(workers=1)
    sandbox._plan = Plan(Tier.UNSAFE)
    return sandbox


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds, as Ctrl-C does, and expect that it lets that through."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with pytest.raises(KeyboardInterrupt):
        yield
    signal.signal(signal.SIGALRM, previous)


def all_end(pids: Iterable[int]) -> bool:
    """Return whether all these processes end within 20 seconds each; they need not be our children."""
    return all(map(_ends, pids))


def _ends(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 20)[0])
    finally:
        os.close(handle)
