"""One thread for one reward, so that all rewards of a batch are computed at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from omnithink_pl.rewards.base import Reward
    from omnithink_pl.types import Group, Outcome

Outcomes = list[list["Outcome"]]
_GRACE = 0.2


@final
class RewardThread:
    """Scores the batches that it is given, one after the other.

    A reward is only ever used from its own thread, which lives as long as the reward is used: it needs no locks,
    and processes that end with the thread that started them go on. The thread keeps no process alive.

    Args:
        reward: The reward.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[tuple[Sequence[Group], Future[Outcomes]] | None] = SimpleQueue()

    def start(self, groups: Sequence[Group]) -> Future[Outcomes]:
        """Begin to score; the result is what ``Reward.score`` returns or raises."""
        future: Future[Outcomes] = Future()
        with self._lock:
            if self._thread is None:
                self._jobs = SimpleQueue()
                name = f"reward {self.reward.name}"
                self._thread = threading.Thread(target=self._work, args=(self._jobs,), name=name, daemon=True)
                self._thread.start()
            self._jobs.put((groups, future))
        return future

    def close(self) -> None:
        """End the thread and release the reward. Safe to call twice.

        Where the thread is in the midst of something that does not end by itself, the reward is closed under it,
        which ends the processes and connections that it waits for.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
        if thread is not None:
            thread.join(_GRACE)
        self.reward.close()
        if thread is not None:
            thread.join(_GRACE)

    def _work(self, jobs: SimpleQueue[tuple[Sequence[Group], Future[Outcomes]] | None]) -> None:
        while (job := jobs.get()) is not None:
            groups, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                outcomes = self.reward.score(groups)
            except BaseException as error:  # noqa: BLE001  (not swallowed: whoever waits gets it)
                future.set_exception(error)
            else:
                future.set_result(outcomes)
