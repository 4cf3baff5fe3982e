"""Examples of all tasks, and the order in which training meets them."""

from __future__ import annotations

from omnithink_pl.data.module import MultiTaskData
from omnithink_pl.data.samplers import StratifiedTaskSampler, TaskSampler

__all__ = ["MultiTaskData", "StratifiedTaskSampler", "TaskSampler"]
