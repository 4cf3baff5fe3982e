"""Scoring a batch: every reward in a thread of its own, while other groups are still sampled."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar, final

from omnithink_pl.types import Component, Group, Outcome, Score, State

if TYPE_CHECKING:
    from omnithink_pl.rewards.base import Reward, Rubric


Key = TypeVar("Key", bound=Hashable)


class OutcomeCache(Generic[Key]):
    """Remembers the outcomes of the most recently used keys.

    Failed outcomes are not remembered: they say nothing about the completion, and the next
    attempt may succeed.

    Args:
        size: Outcomes kept.
    """

    def __init__(self, size: int = 10_000) -> None:
        self.size = size
        self._known: OrderedDict[Key, Outcome] = OrderedDict()

    def look_up(self, keys: Sequence[Key], find_out: Callable[[list[Key]], list[Outcome]]) -> list[Outcome]:
        """The outcome of every key; each distinct unknown key is found out once.

        Args:
            keys: In any order, with repetitions.
            find_out: Called once with the distinct unknown keys, if there are any.
        """
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            found.update(zip(missing, find_out(missing), strict=True))
        for key, outcome in found.items():
            self._remember(key, outcome)
        return [found[key] for key in keys]

    def _remember(self, key: Key, outcome: Outcome) -> None:
        if outcome.state is State.FAILED:
            return
        self._known[key] = outcome
        self._known.move_to_end(key)
        if len(self._known) > self.size:
            self._known.popitem(last=False)


OVERDUE = Outcome.failed("reward timed out")


@dataclass
class Job:
    """What one reward has been asked.

    Args:
        groups: By their places.
        outcomes: Theirs, in order.
        began: When it was asked, on the monotonic clock.
        ended: When it answered.
    """

    groups: Mapping[int, Group]
    outcomes: Future[Outcomes]
    began: float
    ended: float | None = None


@final
class Scoring:
    """Scores groups while more of them come; which come first makes no difference to a score.

    A group has a *place*, a number of its own. Rewards that await no more than a group are asked about it as soon as
    it is added, the others when all groups are there, in the order of their places.

    Args:
        rewards: The threads that compute the rewards, with the weights of these; the first is the primary one.
    """

    def __init__(self, rewards: Sequence[tuple[RewardThread, float]]) -> None:
        self._rewards = rewards
        self._groups: dict[int, Group] = {}
        self._jobs: list[list[Job]] = [[] for _ in rewards]
        self._completed = 0.0

    def add(self, groups: Mapping[int, Group]) -> None:
        """Begin to score groups."""
        self._groups.update(groups)
        self._ask(groups, of_groups=True)

    def complete(self) -> None:
        """Say that there are no more groups."""
        self._ask(dict(sorted(self._groups.items())), of_groups=False)
        self._completed = time.monotonic()

    def scores(self, timeout: float | None = None) -> dict[int, list[Score]]:
        """Wait for the scores of the completions of each group, by place.

        Args:
            timeout: Seconds since the groups were complete after which a reward that has not come back has failed.
        """
        left = None if timeout is None else max(0.0, self._completed + timeout - time.monotonic())
        wait(self.running, left)
        columns = [_outcomes(jobs) for jobs in self._jobs]
        return {
            place: [self._score([column[place][i] for column in columns]) for i in range(len(group.completions))]
            for place, group in sorted(self._groups.items())
        }

    @property
    def running(self) -> list[Future[Outcomes]]:
        """What the rewards have been asked, answered or not."""
        return [job.outcomes for jobs in self._jobs for job in jobs]

    def spans(self, now: float) -> list[tuple[float, float]]:
        """From when to when each reward has been at work, on the monotonic clock; until now if it still is."""
        return [(job.began, job.ended or now) for jobs in self._jobs for job in jobs]

    def _ask(self, groups: Mapping[int, Group], of_groups: bool) -> None:
        for jobs, (thread, _) in zip(self._jobs, self._rewards, strict=True):
            if groups and of_groups == (thread.reward.awaits == "group"):
                jobs.append(_begin(thread, groups))

    def _score(self, outcomes: Iterable[Outcome]) -> Score:
        parts = zip(self._rewards, outcomes, strict=True)
        return Score(tuple(Component(thread.reward.name, weight, outcome) for (thread, weight), outcome in parts))


def covered(spans: Iterable[tuple[float, float]], until: float) -> float:
    """Seconds before a moment that lie in at least one span."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(spans):
        end = min(ended, until)
        total += max(0.0, end - max(began, reached))
        reached = max(reached, end)
    return total


def _begin(thread: RewardThread, groups: Mapping[int, Group]) -> Job:
    job = Job(groups, thread.start(list(groups.values())), time.monotonic())

    def note(_: object) -> None:
        job.ended = time.monotonic()

    job.outcomes.add_done_callback(note)
    return job


def _outcomes(jobs: Iterable[Job]) -> dict[int, list[Outcome]]:
    """One reward's outcomes for each group, by place."""
    found: dict[int, list[Outcome]] = {}
    for job in jobs:
        if job.outcomes.done():
            found |= zip(job.groups, job.outcomes.result(), strict=True)
        else:
            job.outcomes.cancel()  # of effect on one that has not begun, behind an earlier one that hangs
            found |= {place: [OVERDUE for _ in group.completions] for place, group in job.groups.items()}
    return found


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


@final
class BatchScoring:
    """Scores the groups of a batch by their own tasks' rewards, those of all tasks at the same time.

    A group is scored as soon as it is added, while others are still being sampled.

    Args:
        rubrics: The rewards of each task, by name.
    """

    def __init__(self, rubrics: Mapping[str, Rubric]) -> None:
        self._rubrics = rubrics
        self._scorings: dict[str, Scoring] = {}

    def add(self, groups: Mapping[int, Group]) -> None:
        """Begin to score groups, given by their places in the batch."""
        for task in dict.fromkeys(group.example.task for group in groups.values()):
            scoring = self._scorings.setdefault(task, self._rubrics[task].open())
            scoring.add({place: group for place, group in groups.items() if group.example.task == task})

    def complete(self) -> None:
        """Say that the batch is there: rewards that compare its groups begin."""
        for scoring in self._scorings.values():
            scoring.complete()

    def scores(self, timeout: float | None = None) -> list[list[Score]]:
        """Wait for one score per completion, in the order of the groups' places and their completions.

        Args:
            timeout: Seconds since the batch was complete after which a reward that has not come back has failed.
        """
        found = {place: row for scoring in self._scorings.values() for place, row in scoring.scores(timeout).items()}
        return [row for _, row in sorted(found.items())]

    def seconds_at_work(self) -> float:
        """Seconds until now in which at least one reward was at work."""
        now = time.monotonic()
        return covered((span for scoring in self._scorings.values() for span in scoring.spans(now)), now)


def score_batch(
    groups: Sequence[Group], rubrics: Mapping[str, Rubric], timeout: float | None = None
) -> list[list[Score]]:
    """Score every completion of a batch that is there.

    Args:
        groups: Of any tasks, in any order.
        rubrics: The rewards of each task, by name.
        timeout: Seconds after which a reward that has not come back has failed.

    Returns:
        One score per completion, in the order of ``groups`` and their completions.
    """
    scoring = BatchScoring(rubrics)
    scoring.add(dict(enumerate(groups)))
    scoring.complete()
    return scoring.scores(timeout)
