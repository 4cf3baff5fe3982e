"""Which phase a training step is in, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

Phase = Literal["rollout", "reward", "update"]


@final
class Stopwatch:
    """Adds up the seconds of each phase of a step."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self.seconds: dict[str, float] = {}

    def begin(self) -> None:
        """Forget the step before."""
        self.seconds = {}

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """The step is in this phase for the while; phases do not overlap."""
        began, self.phase = time.perf_counter(), phase
        try:
            yield
        finally:
            self.phase = None
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
