"""Whole runs on vLLM: the engine stays the trainer's model, and a killed run continues exactly."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.vllm.runs import STEPS, checkpoint, metrics, run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    done = run(directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_law_6_engine_and_trainer_agree_in_every_step(uninterrupted: Path) -> None:
    history = metrics(uninterrupted)
    for name in ("train/logprob_diff_max", "train/logprob_diff_mean", "train/logprob_diff_kl"):
        assert [step for step, _ in history[name]] == list(range(1, STEPS + 1))
        assert max(value for _, value in history[name]) <= 1e-4
    assert all(value == pytest.approx(1.0, abs=1e-4) for _, value in history["train/importance_mean"])


def test_law_7_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    uninterrupted: Path, tmp_path: Path, tracking_uri: str
) -> None:
    # 2 calls in the first evaluation, then one a step: killed in the second step, behind its first checkpoint.
    killer = "[{class_path: tests.callbacks.killer.EndAt, init_args: {call: 4, signal_name: SIGKILL}}]"
    assert run(tmp_path, f"--trainer.callbacks={killer}").returncode == -signal.SIGKILL
    assert checkpoint(tmp_path)["steps_done"] == 1
    resumed = run(tmp_path, "--ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    expected, found = checkpoint(uninterrupted)["state_dict"], checkpoint(tmp_path)["state_dict"]
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert metrics(tmp_path) == metrics(uninterrupted)
