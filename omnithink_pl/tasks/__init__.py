"""The tasks of the mixture, with their prompts, rewards and metrics."""

from __future__ import annotations

from omnithink_pl.tasks.base import SYSTEM_PROMPT, Task
from omnithink_pl.tasks.builtin import QA, Code, Math, Writing

__all__ = ["QA", "SYSTEM_PROMPT", "Code", "Math", "Task", "Writing"]
