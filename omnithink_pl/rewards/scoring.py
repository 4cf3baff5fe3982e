"""Groups of one task while they are being scored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from omnithink_pl.types import Component, Group, Outcome, Score

if TYPE_CHECKING:
    from omnithink_pl.rewards.thread import Outcomes, RewardThread

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
