"""What happens when rewards cannot be computed."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from omnithink_pl.errors import BadInput, RewardFailure
from omnithink_pl.grpo.advantage import GroupRecord, ScoredGroup
from omnithink_pl.types import Example, Score, State

log = logging.getLogger(__name__)
_CAUSES = 8  # most causes that a step's metrics tell apart
_OTHER = "other"


@dataclass(frozen=True)
class FailurePolicy:
    """When training continues without some rewards, and when it stops.

    Args:
        max_rate: Share of a task's completions that may fail to be scored, over ``window`` batches.
        window: Batches with the task over which the rate is taken; all there are while they are fewer.
        on_outage: What happens at a higher rate: ``stop`` ends the run with the cause, a checkpoint and exit code 1;
            ``pause`` samples nothing from the task for a while and continues with the others of the stage.
        retry_after: Steps for which a task is paused.
        reward_timeout: Seconds that one reward may take once all of a batch has been sampled; scores that are missing
            then have failed. The last resort: rewards have shorter limits of their own.
    """

    max_rate: float = 0.2
    window: int = 10
    on_outage: Literal["stop", "pause"] = "stop"
    retry_after: int = 10
    reward_timeout: float = 600.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_rate <= 1.0:
            raise BadInput(f"model.failures.max_rate is {self.max_rate}; it is a share, so use 0 to 1")
        for key in ("window", "retry_after", "reward_timeout"):
            if getattr(self, key) <= 0:
                raise BadInput(f"model.failures.{key} is {getattr(self, key)}; use more than 0")


@final
class FailureMonitor:
    """Tracks the failures of each task, and pauses tasks."""

    def __init__(self, policy: FailurePolicy) -> None:
        self.policy = policy
        self._recent: dict[str, list[tuple[int, int]]] = {}  # failed and all completions of the last batches
        self._paused: dict[str, int] = {}  # the step at which the task is tried again
        self._cause = ""

    def admit(self, batch: Sequence[Example], step: int, stage: Collection[str]) -> list[Example]:
        """Return the examples of a step's batch whose task is not paused.

        Raises:
            RewardFailure: If all tasks of the stage are paused.
        """
        self._paused = {task: until for task, until in self._paused.items() if step < until}
        if self._paused and set(stage) <= self._paused.keys():
            raise RewardFailure(
                f"all tasks of the stage ({', '.join(stage)}) are paused, most often: {self._cause}. Mend the cause "
                f"and continue with --ckpt_path last"
            )
        return [example for example in batch if example.task not in self._paused]

    def observe(self, groups: Sequence[ScoredGroup | GroupRecord], step: int) -> None:
        """Count the failures of a batch, over all processes.

        Raises:
            RewardFailure: If a task fails too often and the policy is to stop. The batch is then not counted: it is
                not trained on, and a resumed run meets it again.
        """
        recent, paused, cause = dict(self._recent), dict(self._paused), self._cause
        for task in dict.fromkeys(group.task for group in groups):
            own = [score for group in groups if group.task == task for score in group.scores]
            count = (sum(score.state is State.FAILED for score in own), len(own))
            recent[task] = [*recent.get(task, ()), count][-self.policy.window :]
            failed, total = (sum(column) for column in zip(*recent[task], strict=True))
            if failed <= self.policy.max_rate * total:
                continue
            reasons = Counter(reason for score in own for reason in _reasons(score))
            cause = max(reasons, key=reasons.__getitem__, default=cause)
            if self.policy.on_outage == "stop":
                raise RewardFailure(
                    f"{task}: {failed} of {total} rewards of the last {len(recent[task])} batches could not be "
                    f"computed, most often: {cause}. Mend the cause and continue with --ckpt_path last; or raise "
                    f"model.failures.max_rate (now {self.policy.max_rate}), or train without the task meanwhile with "
                    f"model.failures.on_outage: pause"
                )
            del recent[task]
            paused[task] = step + 1 + self.policy.retry_after
        self._recent, self._paused, self._cause = recent, paused, cause

    def tolerate_unscored(self, unscored: Mapping[str, str], row: int) -> None:
        """Accept a row of the score matrix without some tasks, given why they could not be scored.

        Raises:
            RewardFailure: If the policy is to stop; or at row 0, before anything was trained: without it forgetting
                could not be measured later.
        """
        if unscored and (row == 0 or self.policy.on_outage == "stop"):
            task, reason = next(iter(unscored.items()))
            raise RewardFailure(
                f"evaluation: of {task}, more than model.failures.max_rate={self.policy.max_rate} of the completions "
                f"could not be scored ({reason}). Mend the cause and continue with --ckpt_path last, which evaluates "
                f"again"
            )
        for task, reason in unscored.items():
            log.warning("Row %d of the score matrix has no score of %s, and no mean: %s", row, task, reason)

    def metrics(self) -> dict[str, float]:
        """Return the number of paused tasks, where tasks can be paused."""
        return {"train/paused_tasks": float(len(self._paused))} if self.policy.on_outage == "pause" else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the recent failures, the paused tasks and the last cause."""
        return {"recent": dict(self._recent), "paused": dict(self._paused), "cause": self._cause}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        self._recent, self._paused, self._cause = dict(state["recent"]), dict(state["paused"]), state["cause"]


def causes(scores: Sequence[Score]) -> dict[str, int]:
    """Count failed completions by their first :func:`cause`, at most eight causes; the rest is ``other``."""
    found = Counter(cause(reasons[0]) for score in scores if (reasons := _reasons(score)))
    kept = dict(found.most_common(_CAUSES))
    rest = found.total() - sum(kept.values())
    return kept | ({_OTHER: kept.get(_OTHER, 0) + rest} if rest else {})


def cause(reason: str) -> str:
    """Convert a reason's part before the colon, without numbers, to a metric name such as ``judge_timed_out``."""
    return re.sub(r"[^a-z]+", "_", reason.partition(":")[0].lower()).strip("_")[:40] or _OTHER


def _reasons(score: Score) -> list[str]:
    return [c.outcome.reason for c in score.components if c.outcome.state is State.FAILED]
