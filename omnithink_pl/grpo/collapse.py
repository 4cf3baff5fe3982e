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
    """Warns, once in a stage, of a task whose gradient comes mostly from groups with equal primary rewards.

    Args:
        divided: Whether advantages are divided by their group's deviation, so that not to divide is a cure.
    """

    def __init__(self, divided: bool = True) -> None:
        self.cure = (
            "set --model.advantage.scale=none, with which the form keeps its small weight; or " if divided else ""
        )
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
                    f"not the task; {self.cure}use configs/ablations/dynamic_sampling.yaml, which skips and replaces "
                    f"such groups, or begin with a policy that solves some of the problems: docs/real.md"
                )
        return ""
