"""How fast a sandbox works, and what keeps it from working faster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnithink_pl.sandbox.base import Verdict


@dataclass
class Throughput:
    """What a sandbox has done so far. Any thread may call it.

    Args:
        programs: Programs judged.
        seconds: Time spent, summed over workers.
        outcomes: How often each outcome occurred.
    """

    programs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    _window: _Window = field(default_factory=lambda: _Window())
    _running: int = 0
    _marked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def working(self, since: float) -> Iterator[list[Verdict]]:
        """A worker runs a program for the while, and adds its verdict to the list.

        Args:
            since: When it was asked for, on the monotonic clock; till now it waited for a worker.
        """
        began = time.monotonic()
        with self._lock:
            self._mark(began)
            self._running += 1
        verdicts: list[Verdict] = []
        try:
            yield verdicts
        finally:
            ended = time.monotonic()
            with self._lock:
                self._mark(ended)
                self._running -= 1
                self._window.worked += ended - began
                for verdict in verdicts:
                    self._note(verdict, ended - began, began - since)

    def metrics(self) -> dict[str, float]:
        """Since the last call, by name; empty if no program was judged.

        Returns:
            ``programs_per_second`` and ``tests_per_second`` over the time in which anything ran, ``busy_workers`` on
            average over that time, and ``wait_seconds``, the mean time until a program had a worker.
        """
        with self._lock:
            self._mark(time.monotonic())
            window, self._window = self._window, _Window()
        if not window.programs or not window.open:
            return {}
        return {
            "programs_per_second": window.programs / window.open,
            "tests_per_second": window.tests / window.open,
            "busy_workers": window.worked / window.open,
            "wait_seconds": window.waited / window.programs,
        }

    def _mark(self, now: float) -> None:
        """Count the time since the last mark, if anything ran in it."""
        if self._running:
            self._window.open += now - self._marked
        self._marked = now

    def _note(self, verdict: Verdict, seconds: float, waited: float) -> None:
        self.programs += 1
        self.seconds += seconds
        self.outcomes[verdict.outcome.value] += 1
        self._window.programs += 1
        self._window.waited += waited
        # The first failing test ends it, and has run too.
        self._window.tests += min(verdict.total_tests, verdict.passed_tests + 1)

    def __str__(self) -> str:
        each = self.seconds / max(1, self.programs) * 1000
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return f"{self.programs} programs in {self.seconds:.1f} s of all workers, {each:.0f} ms each: {outcomes}"


@dataclass
class _Window:
    """Since the metrics were last asked for; ``open`` is the time in which at least one worker was busy."""

    programs: int = 0
    tests: int = 0
    open: float = 0.0
    worked: float = 0.0
    waited: float = 0.0
