"""Keeps the checkpoint that a run would have been continued from, had it ended there."""

from __future__ import annotations

import shutil
from typing import Any

import lightning as L

from callbacks.checkpoints import Checkpoints


class KeepCheckpoint(L.Callback):
    """Copies ``last.ckpt`` to ``kept.ckpt`` when a step begins.

    Args:
        step: The step, from 0.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.steps_done == self.step and trainer.is_global_zero:
            (checkpoints,) = (one for one in trainer.callbacks if isinstance(one, Checkpoints))
            shutil.copy(checkpoints.path, checkpoints.path.with_name("kept.ckpt"))
