"""Pairwise comparison of answers to open-ended prompts."""

from __future__ import annotations

from omnithink_pl.judge.base import (
    AttachedJudge,
    Comparison,
    Judge,
    JudgeUnavailable,
    MeasuredJudge,
    Preference,
    ScheduledJudge,
)

__all__ = [
    "AttachedJudge",
    "Comparison",
    "Judge",
    "JudgeUnavailable",
    "MeasuredJudge",
    "Preference",
    "ScheduledJudge",
]
