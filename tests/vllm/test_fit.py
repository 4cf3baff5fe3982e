"""Whole runs on vLLM: the engine stays the trainer's model, and a disturbed run continues exactly."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.callbacks.test_resume import histories
from tests.distributed.ranks import checkpoint
from tests.vllm.processes import STEPS, TORCHRUN, run

pytestmark = pytest.mark.slow

TWO_RANKS = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """The directory of a run of one process."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    finished = run(directory)
    assert finished.returncode == 0, finished.stderr
    assert ends_without_words(finished.stderr)
    return directory


def ends_without_words(stderr: str) -> bool:
    """Whether the engine was shut down: a traceback, or a library's report of what is held at exit, says no."""
    return "Traceback" not in stderr and "leaked" not in stderr


def callbacks(name: str, **arguments: object) -> str:
    settings = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    return f"--trainer.callbacks=[{{class_path: tests.{name}, init_args: {{{settings}}}}}]"


def test_law_6_engine_and_trainer_agree_in_every_step(uninterrupted: Path) -> None:
    history = histories(uninterrupted)
    for name in ("train/logprob_diff_max", "train/logprob_diff_mean", "train/logprob_diff_kl"):
        assert [step for step, _ in history[name]] == list(range(1, STEPS + 1))
        assert max(value for _, value in history[name]) <= 1e-4
    assert all(value == pytest.approx(1.0, abs=1e-4) for _, value in history["train/importance_mean"])


def test_law_7_a_run_that_is_killed_and_whose_engine_dies_equals_an_undisturbed_one_bit_for_bit(
    uninterrupted: Path, tmp_path: Path, tracking_uri: str
) -> None:
    # 2 calls of the engine in the first evaluation, then one a step: killed in the second step, after a checkpoint.
    killed = run(tmp_path, callbacks("callbacks.killer.EndAt", call=4, signal_name="SIGKILL"))
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint(tmp_path)["steps_done"] == 1
    died = run(tmp_path, "--ckpt_path=last", callbacks("vllm.watcher.DieAt", call=1))
    assert died.returncode == 1
    assert "error: vLLM could not generate: continue with --ckpt_path last" in died.stderr
    assert "Traceback" not in died.stderr
    assert checkpoint(tmp_path)["steps_done"] == 1
    resumed = run(tmp_path, "--ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    expected, found = checkpoint(uninterrupted)["state_dict"], checkpoint(tmp_path)["state_dict"]
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert histories(tmp_path) == histories(uninterrupted)


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["Lightning's launcher", "torchrun"])
def test_two_processes_equal_one_with_the_whole_batch(
    launcher: tuple[str, ...], uninterrupted: Path, tmp_path: Path, tracking_uri: str
) -> None:
    finished = run(tmp_path, *TWO_RANKS, callbacks("vllm.watcher.SameParameters"), launcher=launcher)
    assert finished.returncode == 0, finished.stderr
    assert ends_without_words(finished.stderr)
    expected, found = checkpoint(uninterrupted)["state_dict"], checkpoint(tmp_path)["state_dict"]
    assert expected.keys() == found.keys()
    for name, right in expected.items():
        assert torch.allclose(found[name], right, atol=1e-5), name
    ours, theirs = histories(tmp_path), histories(uninterrupted)
    assert ours.keys() == theirs.keys()
    for name, history in theirs.items():
        assert [value for _, value in ours[name]] == pytest.approx([value for _, value in history], abs=1e-3), name


def test_no_process_waits_for_one_that_died(tmp_path: Path, tracking_uri: str) -> None:
    # Its time limit is what fails if one waits.
    died = run(tmp_path, *TWO_RANKS, callbacks("vllm.watcher.DieAt", call=4, rank=1))
    assert died.returncode != 0
    assert "error: vLLM could not generate" in died.stderr
    assert checkpoint(tmp_path)["steps_done"] == 1
