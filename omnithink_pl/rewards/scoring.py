"""Scoring: every reward in a thread of its own, so that all rewards run at the same time, while groups are sampled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias, final

from omnithink_pl.errors import RewardFailure
from omnithink_pl.rewards.base import Reward, check_outcomes
from omnithink_pl.types import Component, Group, Outcome, Range, Score

if TYPE_CHECKING:
    from omnithink_pl.model.policy import Policy
    from omnithink_pl.rollout.base import RolloutEngine

Outcomes: TypeAlias = list[list[Outcome]]
_Request: TypeAlias = tuple[Sequence[Group], Future[Outcomes]]
_TIMED_OUT = Outcome.failed("reward timed out")
_GRACE = 0.2  # seconds that a closed thread is waited for


@dataclass(frozen=True)
class Rubric:
    """R(x, y) = sum of w_r r(x, y) over the defined components (the paper, section 4.4)."""

    rewards: tuple[tuple[Reward, float], ...]  # each with its weight w_r; the first is the primary one

    @property
    def range(self) -> Range:
        """The range of the primary reward."""
        return self.rewards[0][0].range

    def score(self, groups: Sequence[Group], timeout: float | None = None) -> list[list[Score]]:
        """Return one score per completion of one task's groups; see :func:`score_batch`."""
        return score_batch(groups, {group.example.task: self for group in groups}, timeout)

    def attach(self, policy: Policy, engine: RolloutEngine) -> None:
        """Pass the policy in training and its engine to the rewards."""
        for reward, _ in self.rewards:
            reward.attach(policy, engine)

    def metrics(self) -> dict[str, float]:
        """Return the rewards' measurements of themselves since the last call, by name."""
        return {name: value for reward, _ in self.rewards for name, value in reward.metrics().items()}

    def close(self) -> None:
        """Release what the rewards hold, within about a second for each that hangs. Safe to call twice."""
        for thread in self.threads:
            thread.close()

    @cached_property
    def threads(self) -> tuple[RewardThread, ...]:
        """The thread of each reward; it starts when first used."""
        return tuple(RewardThread(reward) for reward, _ in self.rewards)


def score_batch(
    groups: Sequence[Group], rubrics: Mapping[str, Rubric], timeout: float | None = None
) -> list[list[Score]]:
    """Return one score per completion of a whole batch, in the order of ``groups`` and their completions.

    Args:
        groups: Of any tasks, in any order.
        rubrics: The rewards of each task, by name.
        timeout: Seconds after which a reward that has not returned has failed.
    """
    scoring = BatchScoring(rubrics)
    scoring.add(dict(enumerate(groups)))
    scoring.complete()
    return scoring.scores(timeout)


@final
class BatchScoring:
    """Scores the groups of a batch by the rewards of their tasks, all rewards at the same time.

    Rewards that need no more than a group are called as soon as it is added, while others are still being sampled;
    the others once the batch is complete, in the order of the groups' indices. Scores do not depend on the order in
    which groups are added or rewards return.
    """

    def __init__(self, rubrics: Mapping[str, Rubric]) -> None:
        self._rubrics = rubrics
        self._groups: dict[int, Group] = {}
        self._calls: list[_Call] = []
        self._completed = 0.0

    def add(self, groups: Mapping[int, Group]) -> None:
        """Begin to score groups, given by their indices in the batch."""
        self._groups |= groups
        self._call(groups, per_group=True)

    def complete(self) -> None:
        """Declare the batch complete: rewards that compare its groups begin."""
        self._call(dict(sorted(self._groups.items())), per_group=False)
        self._completed = time.monotonic()

    def scores(self, timeout: float | None = None) -> list[list[Score]]:
        """Wait for the rewards and return one score per completion, in the order of the groups' indices.

        A reward that has not returned ``timeout`` seconds after the batch was complete has failed. An error that a
        reward raised is raised here: it ends the run and never becomes a reward.
        """
        remaining = None if timeout is None else max(0.0, self._completed + timeout - time.monotonic())
        wait([call.outcomes for call in self._calls], remaining)
        outcomes: dict[tuple[int, int], list[Outcome]] = {}
        for call in self._calls:
            outcomes |= {(index, call.reward): row for index, row in zip(call.groups, call.rows(), strict=True)}
        return [self._group_scores(index, outcomes) for index in sorted(self._groups)]

    def seconds_at_work(self) -> float:
        """Return the seconds until now in which at least one reward was at work."""
        now = time.monotonic()
        return seconds_covered(((call.began, call.ended or now) for call in self._calls), until=now)

    def _call(self, groups: Mapping[int, Group], per_group: bool) -> None:
        """Call the rewards that wait for no more than a group, or the others."""
        for task in dict.fromkeys(group.example.task for group in groups.values()):
            own = {index: group for index, group in groups.items() if group.example.task == task}
            for position, thread in enumerate(self._rubrics[task].threads):
                if per_group == (thread.reward.awaits == "group"):
                    call = _Call(position, own, thread.submit(list(own.values())), time.monotonic())
                    call.outcomes.add_done_callback(call.end)
                    self._calls.append(call)

    def _group_scores(self, index: int, outcomes: Mapping[tuple[int, int], Sequence[Outcome]]) -> list[Score]:
        rewards = self._rubrics[self._groups[index].example.task].rewards
        columns = [
            [Component(reward.name, weight, outcome, reward.range) for outcome in outcomes[index, position]]
            for position, (reward, weight) in enumerate(rewards)
        ]
        return [Score(row) for row in zip(*columns, strict=True)]


@dataclass
class _Call:
    """One call of a reward; times are those of the monotonic clock."""

    reward: int  # its position in the rubric
    groups: Mapping[int, Group]  # by index in the batch
    outcomes: Future[Outcomes]  # one row per group, in order
    began: float
    ended: float | None = None

    def end(self, _: object) -> None:
        """Note the time."""
        self.ended = time.monotonic()

    def rows(self) -> Outcomes:
        """Return the outcomes, failed where there are none yet."""
        if self.outcomes.done():
            return self.outcomes.result()
        self.outcomes.cancel()  # takes effect where it is still queued, behind an earlier call that hangs
        return [[_TIMED_OUT for _ in group.completions] for group in self.groups.values()]


@final
class RewardThread:
    """Runs a reward in a thread of its own, in the order of requests.

    Requests that arrived while the reward was busy are scored in one call, so that it can verify in parallel; not so
    for a reward that compares the groups of a batch, whose call is one batch.

    A reward is only ever used from its own thread, which lives until :meth:`close`: it needs no locks, and worker
    processes that end with the thread that started them stay alive between calls. It is a daemon thread and no
    ``ThreadPoolExecutor``, because the interpreter waits at exit for an executor's threads, even one that hangs.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()

    def submit(self, groups: Sequence[Group]) -> Future[Outcomes]:
        """Begin to score; the future has what ``Reward.score`` returns or raises."""
        future: Future[Outcomes] = Future()
        with self._lock:
            if self._thread is None:
                self._requests = SimpleQueue()
                name = f"reward {self.reward.name}"
                self._thread = threading.Thread(target=self._work, args=(self._requests,), name=name, daemon=True)
                self._thread.start()
            self._requests.put((groups, future))
        return future

    def close(self) -> None:
        """End the thread and release the reward. Safe to call twice.

        A reward whose call does not end by itself is closed from here, which ends what the call waits for.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._requests.put(None)
        if thread is not None:
            thread.join(_GRACE)
        self.reward.close()
        if thread is not None:
            thread.join(_GRACE)

    def _work(self, queue: SimpleQueue[_Request | None]) -> None:
        while (request := queue.get()) is not None:
            requests = [request]
            while self.reward.awaits == "group" and not queue.empty():  # this thread is the only one that takes
                if (following := queue.get()) is None:
                    queue.put(None)
                    break
                requests.append(following)
            self._score([request for request in requests if request[1].set_running_or_notify_cancel()])

    def _score(self, requests: Sequence[_Request]) -> None:
        groups = [group for some, _ in requests for group in some]
        try:
            rows = self.reward.score(groups) if requests else []
            check_outcomes(self.reward, groups, rows)
        except BaseException as error:  # noqa: BLE001  (raised again by the future's result)
            for _, future in requests:
                future.set_exception(self._failure(error))
        else:
            remaining = iter(rows)
            for some, future in requests:
                future.set_result([next(remaining) for _ in some])

    def _failure(self, error: BaseException) -> BaseException:
        """Return an error as it is, and what would end the run as if it were finished or stopped as a failure.

        ``StopIteration`` ends Lightning's loop, ``SystemExit`` the process with exit code 0; ``KeyboardInterrupt``
        means Ctrl-C, which reaches the main thread only.
        """
        if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
            return error
        failure = RewardFailure(
            f"the reward {self.reward.name!r} raised {error!r}; mend it and continue with --ckpt_path last. A reward "
            f"that cannot say returns Outcome.undefined or Outcome.failed"
        )
        failure.__cause__ = error
        return failure


def seconds_covered(spans: Iterable[tuple[float, float]], until: float) -> float:
    """Return the seconds before a moment that lie in at least one (begin, end) span."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        end = min(end, until)
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
