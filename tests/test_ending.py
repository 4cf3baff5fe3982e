"""``python main.py fit``, ended by a failure: exit code 1, the cause on stderr, a checkpoint to continue from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from omnithink_pl.errors import EngineFailure
from tests.judge.scripted import scripted_server
from tests.judge.test_outage import KILLED, STEPS, outage, settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]


class FailAlone(L.Callback):
    """Makes the engine of the second process fail when it samples for a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if trainer.global_rank == 1 and pl_module.steps_done == self.step:
            pl_module.engine.generate = self.fail

    def fail(self, *args: object) -> None:
        raise EngineFailure("a kernel died")


def fit(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True)


def steps_done(directory: Path) -> int:
    (path,) = directory.glob("short/*/last.ckpt")
    return int(torch.load(path, weights_only=True)["steps_done"])


def assert_stopped(ended: subprocess.CompletedProcess[str], directory: Path) -> None:
    assert ended.returncode == 1
    assert "error: writing: 4 of 4 rewards of the last 1 batches could not be computed, most often" in ended.stderr
    assert "judge connection failed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert steps_done(directory) == KILLED, "the step that could not be scored is not in it, those before are"


def test_rewards_that_fail_too_often_end_a_run_that_can_be_continued(tmp_path: Path, tracking_uri: str) -> None:
    with scripted_server() as server:
        assert_stopped(fit(settings(tmp_path, server, outage(server))), tmp_path)
    with scripted_server(server.port) as again:
        continued = fit(settings(tmp_path, again, "--ckpt_path=last"))
    assert continued.returncode == 0, continued.stderr
    assert steps_done(tmp_path) == STEPS + 1


def test_two_processes_that_fail_alike_save_together(tmp_path: Path, tracking_uri: str) -> None:
    with scripted_server() as server:
        assert_stopped(fit(settings(tmp_path, server, outage(server), *TWO)), tmp_path)


def test_what_fails_in_one_process_of_two_ends_both_with_a_checkpoint(tmp_path: Path, tracking_uri: str) -> None:
    alone = f"--trainer.callbacks=[{{class_path: tests.test_ending.FailAlone, init_args: {{step: {KILLED}}}}}]"
    with scripted_server() as server:
        ended = fit(settings(tmp_path, server, alone, *TWO))
    assert ended.returncode == 1
    assert "error: a kernel died" in ended.stderr
    assert "error: process 1 of 2 failed; see its message" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert steps_done(tmp_path) == KILLED
