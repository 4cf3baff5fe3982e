"""Typed lookups of the run's parts, for callbacks."""

from __future__ import annotations

from typing import TypeVar

import lightning as L

from omnithink_pl.data import MultiTaskData
from omnithink_pl.modules import PolicyModule

C = TypeVar("C", bound=L.Callback)


def callback_of(trainer: L.Trainer, kind: type[C]) -> C:
    """The run's callback of a kind.

    Raises:
        TypeError: If there is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kind):
            return callback
    raise TypeError(f"this needs the callback {kind.__name__}, and the run has none")


def module_of(trainer: L.Trainer) -> PolicyModule:
    """The module that is trained.

    Raises:
        TypeError: If it is not one that these callbacks understand.
    """
    module = trainer.lightning_module
    if not isinstance(module, PolicyModule):
        raise TypeError(f"this callback works with PolicyModule, not with {type(module).__name__}")
    return module


def data_of(trainer: L.Trainer) -> MultiTaskData:
    """The data it is trained on.

    Raises:
        TypeError: If it is not multi-task data.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, MultiTaskData):
        raise TypeError(f"this callback works with MultiTaskData, not with {type(data).__name__}")
    return data
