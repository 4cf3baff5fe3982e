"""What callbacks have in common: events of stages, and typed lookups of the run's parts."""

from __future__ import annotations

from typing import TypeVar

import lightning as L

from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.data import MultiTaskData
from omnithink_pl.modules import PolicyModule

C = TypeVar("C", bound=L.Callback)


class StageCallback(L.Callback):
    """A callback that the curriculum tells of stages, in the order of the trainer's callbacks.

    Both hooks are called between two steps: at the start of training, or behind ``on_train_batch_end``.
    """

    def on_stage_start(self, trainer: L.Trainer, pl_module: PolicyModule, run: StageRun) -> None:
        """Called before the first step of a stage; again, with ``begins`` false, on resuming or when the plan changed.

        Called for the base model too, whose number is 0, before it is evaluated.
        """

    def on_stage_end(self, trainer: L.Trainer, pl_module: PolicyModule, run: StageRun) -> None:
        """Called when all tasks have been evaluated after the last step of a stage, or on the base model."""


def callback_of(trainer: L.Trainer, kind: type[C]) -> C:
    """Return the run's callback of a class.

    Raises:
        TypeError: If there is none.
    """
    found = find_callback(trainer, kind)
    if found is None:
        raise TypeError(f"this needs the callback {kind.__name__}, and the run has none")
    return found


def find_callback(trainer: L.Trainer, kind: type[C]) -> C | None:
    """Return the run's callback of a class, or ``None``."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def module_of(trainer: L.Trainer) -> PolicyModule:
    """Return the module that is trained.

    Raises:
        TypeError: If it is not one that these callbacks understand.
    """
    module = trainer.lightning_module
    if not isinstance(module, PolicyModule):
        raise TypeError(f"this callback works with PolicyModule, not with {type(module).__name__}")
    return module


def data_of(trainer: L.Trainer) -> MultiTaskData:
    """Return the data it is trained on.

    Raises:
        TypeError: If it is not multi-task data.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, MultiTaskData):
        raise TypeError(f"this callback works with MultiTaskData, not with {type(data).__name__}")
    return data
