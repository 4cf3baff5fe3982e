"""What a training step reports: names and values, from scores and token statistics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, final

from omnithink_pl.grpo.advantage import ScoredGroup, has_mixed_primary
from omnithink_pl.grpo.failures import causes
from omnithink_pl.grpo.update import TokenStats
from omnithink_pl.types import State


def rollout_metrics(rollouts: Sequence[ScoredGroup]) -> dict[str, float]:
    """Rewards, signal, failures and lengths: for all tasks under ``train/``, for each under ``train/<task>/``.

    Args:
        rollouts: The groups of one batch; none if all its tasks are paused.

    Returns:
        Metrics by name; shares and rewards are fractions, lengths are in tokens, failures by cause are counts.
    """
    if not rollouts:
        return {}
    metrics = {f"train/{name}": value for name, value in _summary(rollouts).items()}
    for task in sorted({rollout.task for rollout in rollouts}):
        own = [rollout for rollout in rollouts if rollout.task == task]
        metrics |= {f"train/{task}/{name}": value for name, value in _summary(own).items()}
        metrics[f"train/{task}/share"] = len(own) / len(rollouts)
        failed = causes([score for rollout in own for score in rollout.scores])
        metrics |= {f"train/{task}/failed/{cause}": float(count) for cause, count in failed.items()}
    return metrics


def update_metrics(stats: Sequence[TokenStats]) -> dict[str, float]:
    """Token means of an update: KL, entropy, clip fraction, sampler against trainer.

    Args:
        stats: One row per completion.
    """
    if not stats:
        return {}
    metrics = {f"train/{name}": value for name, value in _token_means(stats).items()}
    for task in sorted({row.task for row in stats}):
        own = _token_means([row for row in stats if row.task == task])
        metrics |= {f"train/{task}/{name}": own[name] for name in ("kl", "entropy", "clip_fraction") if name in own}
    return metrics


def staleness(rollouts: Sequence[ScoredGroup]) -> dict[str, float]:
    """How many groups a step was trained on, and how much of them an earlier policy sampled: shares.

    Args:
        rollouts: Of all processes.
    """
    tokens = sum(len(completion.token_ids) for one in rollouts for completion in one.group.completions)
    return {
        "trained_groups": float(len(rollouts)),
        "stale_groups": sum(one.stale for one in rollouts) / max(1, len(rollouts)),
        "stale_tokens": sum(sum(one.earlier) for one in rollouts) / max(1, tokens),
    }


def _token_means(stats: Sequence[TokenStats]) -> dict[str, float]:
    tokens = sum(row.tokens for row in stats)
    kl = [row.kl for row in stats if row.kl is not None]
    return ({"kl": sum(kl) / tokens} if kl else {}) | {
        "entropy": sum(row.entropy for row in stats) / tokens,
        "clip_fraction": sum(row.clipped for row in stats) / tokens,
        "logprob_diff_mean": sum(row.difference for row in stats) / tokens,
        "logprob_diff_max": max(row.difference_max for row in stats),
        "logprob_diff_kl": sum(row.difference_kl for row in stats) / tokens,
        "importance_mean": sum(row.importance for row in stats) / tokens,
        "importance_capped": sum(row.capped for row in stats) / tokens,
    }


def _summary(rollouts: Sequence[ScoredGroup]) -> dict[str, float]:
    scores = [score for rollout in rollouts for score in rollout.scores]
    completions = [c for rollout in rollouts for c in rollout.group.completions]
    totals = [total for score in scores if (total := score.total) is not None]
    summary = {
        "completion_length": statistics.fmean(len(c.token_ids) for c in completions),
        "truncated": _share([c.finish_reason == "length" for c in completions]),
        "undefined": _share([score.primary.state is State.UNDEFINED for score in scores]),
        "failed": _share([score.state is State.FAILED for score in scores]),
        "mixed_groups": _share([has_mixed_primary(rollout.scores) for rollout in rollouts]),
        "no_signal_groups": _share([not rollout.has_signal for rollout in rollouts]),
    }
    # A completion without an answer earns nothing; one that we failed to score says nothing.
    primary = [score.primary.value or 0.0 for score in scores if score.state is not State.FAILED]
    if primary:
        summary["reward"] = statistics.fmean(primary)
    if totals:
        summary["total"] = statistics.fmean(totals)
    for name in sorted({c.name for score in scores for c in score.components[1:]}):
        values = [c.outcome.value for s in scores for c in s.components if c.name == name]
        defined = [value for value in values if value is not None]
        if defined:
            summary[name] = statistics.fmean(defined)
    return summary


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


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
