"""Two processes on CPUs, each with its own engine, train as one with the whole batch does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.vllm.runs import checkpoint, metrics, run

TWO = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=2",
    "--trainer.strategy=ddp",
    "--trainer.callbacks=[{class_path: tests.vllm.watcher.SameParameters}]",
]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = tmp_path_factory.mktemp("alone")
    shutil.copy(empty_store, directory / "mlflow.db")
    done = run(directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["Lightning's launcher", "torchrun"])
def test_two_processes_equal_one_with_the_whole_batch(
    launcher: tuple[str, ...], alone: Path, tmp_path: Path, tracking_uri: str
) -> None:
    done = run(tmp_path, *TWO, launcher=launcher)
    assert done.returncode == 0, done.stderr
    expected, found = checkpoint(alone)["state_dict"], checkpoint(tmp_path)["state_dict"]
    assert expected.keys() == found.keys()
    for name, right in expected.items():
        assert torch.allclose(found[name], right, atol=1e-5), name
    ours, theirs = metrics(tmp_path), metrics(alone)
    assert ours.keys() == theirs.keys()
    for name, history in theirs.items():
        assert [value for _, value in ours[name]] == pytest.approx([value for _, value in history], abs=1e-3), name
