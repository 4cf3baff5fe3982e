"""Sets the learning rate of each step."""

from __future__ import annotations

from typing import Any

import lightning as L

from omnithink_pl.curriculum.schedulers import Decay, LearningRateSchedule
from omnithink_pl.curriculum.stages import StageRun

from .lookups import StageCallback, module_of


class LearningRate(StageCallback):
    """Multiplies the optimiser's learning rate by a schedule, anew in every stage.

    Args:
        warmup_steps: Steps over which it rises from 0.
        decay: How it falls after that: ``none``, ``linear`` or ``cosine``.
        floor: Share of the learning rate that it falls to.
        restart: Begin anew with every stage; false: one schedule over all stages.
    """

    def __init__(self, warmup_steps: int = 0, decay: Decay = "none", floor: float = 0.0, restart: bool = True) -> None:
        self.schedule = LearningRateSchedule(warmup_steps, decay, floor, restart)
        self._run: StageRun

    def on_stage_start(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        """Note the stage that the schedule follows."""
        self._run = run

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the rate of the step."""
        if self.schedule.constant:
            return
        factor = self.schedule.factor(self._run, module_of(trainer).steps_done)
        for group in _groups(trainer):
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Log the rate, where it changes."""
        if not self.schedule.constant:
            rate = {"train/learning_rate": _groups(trainer)[0]["lr"]}
            for logger in trainer.loggers:
                logger.log_metrics(rate, step=module_of(trainer).steps_done)


def _groups(trainer: L.Trainer) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
