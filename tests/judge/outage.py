"""Ends a judge's process at a chosen step of a fit, and starts it again."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning as L

from tests.judge.scripted import ScriptedServer


class Outage(L.Callback):
    """Kills the judge before a step, and before a later one puts another at the same port.

    Args:
        pid: Its process.
        port: Where it listens.
        step: Steps done when it is killed.
        back: Steps done when it comes back; never if not given.
    """

    started: ScriptedServer | None = None

    def __init__(self, pid: int, port: int, step: int, back: int | None = None) -> None:
        self.pid, self.port, self.step, self.back = pid, port, step, back

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if pl_module.steps_done == self.step:
            os.kill(self.pid, signal.SIGKILL)
        if pl_module.steps_done == self.back:
            type(self).started = ScriptedServer(self.port)
