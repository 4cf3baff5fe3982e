"""How the learning rate goes over the steps of a stage. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from omnithink_pl.curriculum import Stage, position, total_steps
from omnithink_pl.errors import BadInput

Decay = Literal["none", "linear", "cosine"]


@dataclass(frozen=True)
class LearningRateSchedule:
    """A factor of the optimiser's learning rate, as a function of the step: there is no state to lose.

    Over n steps of which the first w are warm-up, at step t = 0, 1, ...: (t + 1) / w during warm-up, then
    floor + (1 - floor) s(p) with p = (t - w) / (n - w) and s = 1 (``none``), 1 - p (``linear``) or
    (1 + cos(pi p)) / 2 (``cosine``; Loshchilov and Hutter 2017, "SGDR").

    Args:
        warmup_steps: w; 0 for none.
        decay: s.
        floor: What the factor tends to, in [0, 1].
        restart: Begin anew with every stage; otherwise n counts the steps of all stages.
    """

    warmup_steps: int = 0
    decay: Decay = "none"
    floor: float = 0.0
    restart: bool = True

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise BadInput(f"learning_rate.warmup_steps is {self.warmup_steps}; use 0 or more")
        if not 0.0 <= self.floor <= 1.0:
            raise BadInput(f"learning_rate.floor is {self.floor}; it is a factor, so use 0 to 1")

    @property
    def constant(self) -> bool:
        """Whether the factor is always 1."""
        return self.decay == "none" and self.warmup_steps == 0

    def factor(self, stages: Sequence[Stage], step: int) -> float:
        """The factor at a zero-based step of the curriculum."""
        at = position(stages, step)
        now, steps = (at.step_in_stage, at.stage.steps) if self.restart else (step, total_steps(stages))
        if now < self.warmup_steps:
            return (now + 1) / self.warmup_steps
        passed = (now - self.warmup_steps) / (steps - self.warmup_steps)
        return self.floor + (1.0 - self.floor) * _shape(self.decay, passed)


def _shape(decay: Decay, passed: float) -> float:
    if decay == "linear":
        return 1.0 - passed
    return (1.0 + math.cos(math.pi * passed)) / 2.0 if decay == "cosine" else 1.0
