"""Rewards, one a file, and the rubric that adds them up."""

from __future__ import annotations

from omnithink_pl.rewards.base import Reward
from omnithink_pl.rewards.code import CodeReward
from omnithink_pl.rewards.format import FormatReward, TagsReward, extract_answer
from omnithink_pl.rewards.function import FunctionReward
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.rewards.qa import LetterReward, QAReward
from omnithink_pl.rewards.scoring import Rubric
from omnithink_pl.rewards.writing import WritingReward

__all__ = [
    "CodeReward",
    "FormatReward",
    "FunctionReward",
    "LetterReward",
    "MathReward",
    "QAReward",
    "Reward",
    "Rubric",
    "TagsReward",
    "WritingReward",
    "extract_answer",
]
