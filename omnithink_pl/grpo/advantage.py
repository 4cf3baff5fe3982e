"""Group-normalised advantages: how much better a completion is than its siblings.

A_i = (R_i - mean(R)) / std(R) over the G completions of one prompt: equation 5 of the paper,
after Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300, section 4.1.2).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from omnithink_pl.types import Group, Score, State

# Rewards closer than this are equal: float noise of sums in float32 stays below it, and the smallest real difference,
# one tag at weight 0.1, is 0.025.
SAME = 1e-6


@dataclass(frozen=True)
class GroupAdvantage:
    """Advantages of one group from its scores.

    Only scored completions take part: a failed or undefined total changes no sibling's advantage.

    Args:
        scale: ``std`` divides by the sample standard deviation (Bessel-corrected, as TRL and verl
            do; the paper leaves it open). ``none`` only subtracts the mean, as Dr. GRPO does
            (Liu et al. 2025, arXiv 2503.20783), which removes the bias towards groups with little spread.
        phantom_guard: A group whose primary rewards are all equal gets no advantage, so that format
            and tags alone are not scaled up to full size. Off: the paper's plain sum.
    """

    scale: Literal["std", "none"] = "std"
    phantom_guard: bool = False

    def __call__(self, scores: Sequence[Score], penalties: Sequence[float] = ()) -> list[float | None]:
        """Return one number per completion: ``None`` without a total, exactly 0.0 for all where totals are equal.

        Args:
            scores: Of the group.
            penalties: Added to the totals, one per completion; none if empty.
        """
        added = penalties or [0.0] * len(scores)
        totals = [None if s.total is None else s.total + penalty for s, penalty in zip(scores, added, strict=True)]
        scored = [total for total in totals if total is not None]
        if all_equal(scored) or (self.phantom_guard and not has_mixed_primary(scores)):
            return [None if total is None else 0.0 for total in totals]
        mean = statistics.fmean(scored)
        scale = statistics.stdev(scored) if self.scale == "std" else 1.0
        return [None if total is None else (total - mean) / scale for total in totals]


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group with its scores and advantages."""

    group: Group  # the example with its completions
    scores: tuple[Score, ...]  # one score per completion
    advantages: tuple[float | None, ...]  # one number per completion; ``None`` where it is left out of the loss
    stale: bool = False  # whether all of it was sampled by an earlier policy than the one that is trained on it
    penalties: tuple[float, ...] = ()  # of overlong completions, one per completion; empty where they are off

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.group.example.task

    @property
    def key(self) -> str:
        """Identity of the example among those of all tasks."""
        return self.group.example.key

    @property
    def has_signal(self) -> bool:
        """Whether any advantage in the loss is not 0."""
        return any(self.advantages)

    @property
    def earlier(self) -> list[int]:
        """How many of each completion's first tokens an earlier policy sampled than the one that is trained on it."""
        return [len(c.token_ids) if self.stale else c.earlier for c in self.group.completions]

    @property
    def kept(self) -> list[int]:
        """Indices of the completions that take part in the loss."""
        return [i for i, advantage in enumerate(self.advantages) if advantage is not None]

    def record(self) -> GroupRecord:
        """Return what metrics, the failure monitor and the task sampler need of it."""
        completions = self.group.completions
        return GroupRecord(
            self.task,
            self.key,
            self.scores,
            tuple(len(c.token_ids) for c in completions),
            sum(c.finish_reason == "length" for c in completions),
            sum(self.earlier),
            self.stale,
            self.has_signal,
            self.penalties,
            sum(abs(advantage) for i in self.kept if (advantage := self.advantages[i]) is not None),
        )


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A scored group without prompt, tokens and texts: what processes exchange in every step."""

    task: str  # name of the task
    key: str  # identity of the example
    scores: tuple[Score, ...]  # one score per completion
    lengths: tuple[int, ...]  # tokens of each completion
    truncated: int  # completions without EOS
    earlier_tokens: int  # tokens that an earlier policy sampled
    stale: bool  # whether an earlier policy sampled all of it
    has_signal: bool  # whether any advantage in the loss is not 0
    penalties: tuple[float, ...] = ()  # of overlong completions, one per completion; empty where they are off
    advantage: float = 0.0  # sum of the absolute advantages in the loss


def phantom_gradient(groups: Sequence[GroupRecord]) -> float:
    """Return the share of all absolute advantages that lies in groups whose primary rewards are all equal.

    There only format and tags differ, and division by their small spread blows them up to full size. Where hardly any
    group has both right and wrong answers, a policy so learns to fill in the form instead of solving the task.
    """
    total = sum(group.advantage for group in groups)
    phantom = sum(group.advantage for group in groups if not has_mixed_primary(group.scores))
    return phantom / total if total else 0.0


def all_equal(rewards: Sequence[float]) -> bool:
    """Return whether rewards are equal but for float noise; true of none or one."""
    return len(rewards) < 2 or max(rewards) - min(rewards) < SAME


def has_mixed_primary(scores: Sequence[Score]) -> bool:
    """Return whether the task's own reward differs among the scored completions; without a value it is the lowest."""
    return not all_equal([score.primary_value for score in scores if score.state is State.VALUE])
