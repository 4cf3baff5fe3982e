"""Ctrl-C in a step: let it finish, unless it only waits for rewards."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.checkpoints import Checkpoints
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer


class Pressed(CountingModule):
    """Gets a Ctrl-C in its third step, in some phase of it."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.pressed_in = phase

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if self.steps_done == 2:
            self.watch.phase = self.pressed_in
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0)  # handlers run between two instructions of Python
            self.watch.phase = None
        super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("phase", "finished"), [("rollout", 3), ("reward", 2), ("update", 3)])
def test_a_step_that_only_waits_for_rewards_is_given_up_and_any_other_finished(
    phase: str, finished: int, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(every_n_steps=10, save_policy=False)
    fit = trainer(tmp_path, [evaluation(), checkpoints, curriculum()], enable_progress_bar=False)
    with pytest.raises(SystemExit):
        fit.fit(Pressed(phase), CountedData())
    assert torch.load(checkpoints.path, weights_only=True)["steps_done"] == finished
