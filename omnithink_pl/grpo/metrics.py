"""Metrics of a training step, from records of its groups and token statistics, and the time of its phases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, final

from omnithink_pl.grpo.advantage import GroupRecord, has_mixed_primary, phantom_gradient
from omnithink_pl.grpo.failures import causes
from omnithink_pl.grpo.update import TokenStats
from omnithink_pl.rewards.format import FormatReward
from omnithink_pl.types import Score, State


def rollout_metrics(groups: Sequence[GroupRecord]) -> dict[str, float]:
    """Return rewards, signal, failures and lengths: of all tasks as ``train/``, of each as ``train/<task>/``.

    Shares and rewards are fractions, lengths are in tokens, failures by cause are counts. ``groups`` are those of one
    batch, over all processes; none if all its tasks are paused.
    """
    if not groups:
        return {}
    metrics = {f"train/{name}": value for name, value in _summary(groups).items()}
    for task in sorted({group.task for group in groups}):
        own = [group for group in groups if group.task == task]
        metrics |= {f"train/{task}/{name}": value for name, value in _summary(own).items()}
        metrics[f"train/{task}/share"] = len(own) / len(groups)
        failed = causes([score for group in own for score in group.scores])
        metrics |= {f"train/{task}/failed/{cause}": float(count) for cause, count in failed.items()}
    return metrics


def update_metrics(stats: Sequence[TokenStats]) -> dict[str, float]:
    """Return token means of an update: KL, entropy, clip fraction, sampler against trainer."""
    if not stats:
        return {}
    metrics = {f"train/{name}": value for name, value in _token_means(stats).items()}
    for task in sorted({row.task for row in stats}):
        own = _token_means([row for row in stats if row.task == task])
        metrics |= {f"train/{task}/{name}": own[name] for name in ("kl", "entropy", "clip_fraction") if name in own}
    return metrics


def staleness(groups: Sequence[GroupRecord]) -> dict[str, float]:
    """Return the number of groups that a step was trained on, and which share an earlier policy sampled."""
    tokens = sum(sum(group.lengths) for group in groups)
    return {
        "trained_groups": float(len(groups)),
        "stale_groups": sum(group.stale for group in groups) / max(1, len(groups)),
        "stale_tokens": sum(group.earlier_tokens for group in groups) / max(1, tokens),
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


def _summary(groups: Sequence[GroupRecord]) -> dict[str, float]:
    scores = [score for group in groups for score in group.scores]
    totals = [total for score in scores if (total := score.total) is not None]
    lengths = [length for group in groups for length in group.lengths]
    summary = {
        "completion_length": statistics.fmean(lengths),
        "truncated": sum(group.truncated for group in groups) / len(lengths),
        "undefined": _share([score.primary.state is State.UNDEFINED for score in scores]),
        "failed": _share([score.state is State.FAILED for score in scores]),
        "mixed_groups": _share([has_mixed_primary(group.scores) for group in groups]),
        "no_signal_groups": _share([not group.has_signal for group in groups]),
        "phantom_gradient": phantom_gradient(groups),
    }
    if in_form := [length for score, length in zip(scores, lengths, strict=True) if _in_form(score)]:
        summary["length_in_form"] = statistics.fmean(in_form)
    # A completion without an answer earns the least; one that we failed to score says nothing.
    primary = [score.primary_value for score in scores if score.state is not State.FAILED]
    if primary:
        summary["reward"] = statistics.fmean(primary)
    if totals:
        summary["total"] = statistics.fmean(totals)
    if penalties := [penalty for group in groups for penalty in group.penalties]:
        summary["overlong_penalty"] = statistics.fmean(penalties)
    for name in sorted({c.name for score in scores for c in score.components[1:]}):
        outcomes = [c.outcome for score in scores for c in score.components if c.name == name]
        if defined := [outcome.value for outcome in outcomes if outcome.value is not None]:
            summary[name] = statistics.fmean(defined)
    return summary


def _in_form(score: Score) -> bool:
    return any(component.name == FormatReward.name and component.outcome.value == 1.0 for component in score.components)


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
        """Reset at the start of a step."""
        self.seconds = {}

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Time a phase; phases do not overlap."""
        began, self.phase = time.perf_counter(), phase
        try:
            yield
        finally:
            self.phase = None
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
