"""Several programs in one process, each for one lap at a time: a busy machine then slows all of them alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Lap = Callable[[], None]


class Cost(NamedTuple):
    """What a lap took.

    Args:
        seconds: By the clock.
        cpu: Processor seconds of this process, all threads: what a busy machine does not change.
    """

    seconds: float
    cpu: float


class Turns:
    """Whose turn it is, and what each lap took.

    Args:
        names: The sides, in the order of their turns.
    """

    def __init__(self, names: list[str]) -> None:
        self.costs: dict[str, list[Cost]] = {name: [] for name in names}
        self._waiting = list(names)
        self._changed = threading.Condition()
        self._began = Cost(0.0, 0.0)
        self._failure: BaseException | None = None

    def run(self, sides: Mapping[str, Callable[[Lap], None]]) -> dict[str, list[Cost]]:
        """Run all sides to their end; each calls what it is given after each of its laps.

        Returns:
            The cost of each lap of each side, without the time in which it waited.
        """
        threads = [threading.Thread(target=self._side, args=item, daemon=True) for item in sides.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return self.costs

    def _side(self, name: str, program: Callable[[Lap], None]) -> None:
        self._await(name)
        try:
            program(lambda: self._lap(name))
        except BaseException as failure:  # noqa: BLE001  (handed to the main thread)
            self._failure = self._failure or failure
        with self._changed:
            self._waiting.remove(name)
            self._changed.notify_all()

    def _lap(self, name: str) -> None:
        self.costs[name].append(Cost(*(now - began for now, began in zip(_now(), self._began, strict=True))))
        with self._changed:
            self._waiting.append(self._waiting.pop(0))
            self._changed.notify_all()
        self._await(name)

    def _await(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] == name or self._failure is not None)
        if self._failure is not None:
            raise RuntimeError("another side failed")
        self._began = _now()


def _now() -> Cost:
    return Cost(time.perf_counter(), time.process_time())
