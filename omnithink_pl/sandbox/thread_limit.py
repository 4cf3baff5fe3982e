"""A limit of threads where the kernel has none: ``RLIMIT_NPROC`` does not hold for root.

Root that may change its user gives each box another one. Where it may not, as in a container without ``CAP_SETUID``,
programs stay root's, sealed though they are, and one could start threads until the machine has no number left for
another. So they are counted from outside, some times a second, and a program with too many is killed.

Not covered: what a program starts between two looks, some hundred threads; kernels without ``CONFIG_PROC_CHILDREN``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self, final

_PAUSE = 0.05  # seconds between two looks


@final
class ThreadLimit:
    """Kills, while it is on, what has too many threads below a process.

    Args:
        process: Number of the process that was started for a box.
        most: Threads that a program may have.
    """

    def __init__(self, process: int, most: int) -> None:
        self._process, self._most = process, most
        self._is_on, self._ended = threading.Event(), False
        threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def where_needed(cls, process: int, most: int) -> Self | None:
        """Return a limit for a started box, if its programs are root's; else ``None``: the kernel counts threads."""
        innermost = [process, *_below(process)][-1]
        return cls(process, most) if _status(innermost, "Uid") == 0 else None

    def on(self) -> None:
        """Look from now on."""
        self._is_on.set()

    def off(self) -> None:
        """Look no more."""
        self._is_on.clear()

    def end(self) -> None:
        """End the thread that looks."""
        self._ended = True
        self._is_on.set()

    def _watch(self) -> None:
        while self._is_on.wait() and not self._ended:
            self._enforce()
            time.sleep(_PAUSE)

    def _enforce(self) -> None:
        for found in _below(self._process):
            if _status(found, "Threads") <= self._most:
                continue
            with suppress(OSError):  # it has just ended
                handle = os.pidfd_open(found)
                try:
                    if found in _below(self._process):  # its number is not another's by now
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)


def _below(process: int) -> Iterator[int]:
    """Yield the numbers of the processes that a process has started, and so on."""
    with suppress(OSError):  # it has ended
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _status(process: int, key: str) -> int:
    """Return a number that proc(5) tells of a process; -1 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return -1
