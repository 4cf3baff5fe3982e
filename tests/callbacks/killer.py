"""Ends a run at a chosen moment, as a machine or a person would."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning as L


class EndAt(L.Callback):
    """Sends this process a signal when completions are asked for the n-th time.

    Training and evaluation both ask, so every phase of a run can be hit, without waiting for anything.

    Args:
        call: Which call of the engine's ``generate``, counted from 1 behind that of the check at a run's start.
        signal_name: ``SIGKILL``, ``SIGTERM`` or ``SIGINT``.
        ranks: Processes that get it.
    """

    def __init__(self, call: int, signal_name: str, ranks: tuple[int, ...] = (0,)) -> None:
        self.call = call
        self.ranks = ranks
        self.number = signal.Signals[signal_name]

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if trainer.global_rank not in self.ranks:
            return
        generate, calls = pl_module.engine.generate, iter(range(10**9))

        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == self.call:
                os.kill(os.getpid(), self.number)
            return generate(*args, **kwargs)

        pl_module.engine.generate = counted
