"""Pairwise comparison of answers to open-ended prompts."""

from __future__ import annotations

from omnithink_pl.judge.base import Comparison, Judge, JudgeUnavailable, Preference

__all__ = ["Comparison", "Judge", "JudgeUnavailable", "Preference"]
