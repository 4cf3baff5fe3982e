"""Several programs in one process, each for one lap at a time: a busy machine then slows all of them alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

Lap = Callable[[], None]


class Turns:
    """Whose turn it is, and what each lap took.

    Args:
        names: The sides, in the order of their turns.
    """

    def __init__(self, names: list[str]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self._waiting = list(names)
        self._changed = threading.Condition()
        self._began = 0.0
        self._failure: BaseException | None = None

    def run(self, sides: Mapping[str, Callable[[Lap], None]]) -> dict[str, list[float]]:
        """Run all sides to their end; each calls what it is given after each of its laps.

        Returns:
            Seconds of each lap of each side, without the time in which it waited.
        """
        threads = [threading.Thread(target=self._side, args=item, daemon=True) for item in sides.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return self.seconds

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
        self.seconds[name].append(time.perf_counter() - self._began)
        with self._changed:
            self._waiting.append(self._waiting.pop(0))
            self._changed.notify_all()
        self._await(name)

    def _await(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] == name or self._failure is not None)
        if self._failure is not None:
            raise RuntimeError("another side failed")
        self._began = time.perf_counter()
