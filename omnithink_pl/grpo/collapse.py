"""A warning while a policy learns the form of its answers instead of the task."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

from omnithink_pl.grpo.advantage import GroupRecord, phantom_gradient

WINDOW = 5
"""Steps with a task over which the share is taken."""
LIMIT = 0.5
"""Share of the gradient above which format and tags outweigh the task."""


@final
class CollapseAlarm:
    """Warns, once in a stage, of a task whose gradient comes mostly from groups with equal primary rewards."""

    def __init__(self) -> None:
        self.begin_stage()

    def begin_stage(self) -> None:
        """Forget what was observed, and be ready to warn again."""
        self._recent: dict[str, deque[list[GroupRecord]]] = {}
        self._warned = False

    def warning(self, groups: Sequence[GroupRecord]) -> str:
        """Return a warning after a step's groups, over all processes; empty where there is none."""
        for task in sorted({group.task for group in groups}):
            recent = self._recent.setdefault(task, deque(maxlen=WINDOW))
            recent.append([group for group in groups if group.task == task])
            share = phantom_gradient([group for step in recent for group in step])
            if len(recent) == WINDOW and share > LIMIT and not self._warned:
                self._warned = True
                return (
                    f"{share:.0%} of the gradient of {task} over {WINDOW} steps comes from groups whose completions "
                    f"all earn the same for the task and differ in format and tags only: the policy learns the form, "
                    f"not the task. Use configs/ablations/dynamic_sampling.yaml, which skips and replaces such groups, "
                    f"or begin with a policy that solves some of the problems: docs/real.md, cold start"
                )
        return ""
