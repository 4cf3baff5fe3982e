"""Tells the module when a stage begins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning as L

from callbacks.parts import data_of, module_of
from omnithink_pl.curriculum import Stage, check_stages, position, total_steps


class Curriculum(L.Callback):
    """Trains through a list of stages, as one epoch of Lightning's.

    Curriculum, reverse, joint and single-task training are nothing but other lists. Which stage a
    step belongs to follows from the step, so that there is no state to lose.

    Args:
        stages: The stages in order, each with the weight of its tasks and its number of steps.

    Example:
        stages: [{tasks: {code: 1}, steps: 60}, {tasks: {math: 1, code: 0.1}, steps: 60}]
    """

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return total_steps(self.stages)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse stages that cannot run, before anything else happens."""
        check_stages(self.stages, data_of(trainer).tasks)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Announce a stage at its first step."""
        module = module_of(trainer)
        if position(self.stages, module.steps_done).step_in_stage == 0:
            module.begin_stage()

    def state_dict(self) -> dict[str, Any]:
        """The stages, so that a resumed run can tell whether they are still the same."""
        return {"stages": [asdict(stage) for stage in self.stages]}
