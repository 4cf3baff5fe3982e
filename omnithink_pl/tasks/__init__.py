"""The tasks of the mixture, with their prompts, rewards and metrics."""

from __future__ import annotations

from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task
from omnithink_pl.tasks.code import Code
from omnithink_pl.tasks.custom import Custom
from omnithink_pl.tasks.math import Math
from omnithink_pl.tasks.qa import QA
from omnithink_pl.tasks.writing import Writing

__all__ = ["QA", "SYSTEM_PROMPT", "Code", "Custom", "Math", "Task", "Writing"]
