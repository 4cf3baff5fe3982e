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
_Job = tuple[Sequence["Group"], Future[Outcomes]]
_GRACE = 0.2


@final
class RewardThread:
    """Scores what it is given, in order.

    What has come in meanwhile is scored in one call, so that a reward can verify it in parallel; unless the reward
    compares the groups of a batch, for then a call is a batch.

    A reward is only ever used from its own thread, which lives as long as the reward is used: it needs no locks,
    and processes that end with the thread that started them go on. The thread keeps no process alive.

    Args:
        reward: The reward.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

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

    def _work(self, jobs: SimpleQueue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            waiting = [job]
            while self.reward.awaits == "group" and not jobs.empty():  # nobody else takes from it
                if (more := jobs.get()) is None:
                    jobs.put(None)
                    break
                waiting.append(more)
            self._score([job for job in waiting if job[1].set_running_or_notify_cancel()])

    def _score(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        asked = [group for groups, _ in jobs for group in groups]
        try:
            outcomes = self.reward.score(asked)
            if len(outcomes) != len(asked):
                raise ValueError(
                    f"reward {self.reward.name!r}: {len(outcomes)} rows of outcomes for {len(asked)} groups"
                )
        except BaseException as error:  # noqa: BLE001  (not swallowed: whoever waits gets it)
            for _, future in jobs:
                future.set_exception(error)
        else:
            rows = iter(outcomes)
            for groups, future in jobs:
                future.set_result([next(rows) for _ in groups])
