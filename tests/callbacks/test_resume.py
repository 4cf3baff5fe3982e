"""A run that was ended anywhere and continued equals one that was not, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.resume import ResumeError, find_checkpoint, read_checkpoint
from main import main
from omnithink_pl.curriculum.stages import Stage

pytestmark = pytest.mark.slow

# Row 0 asks for completions twice, greedy and sampled; then 3 steps, a row, 3 steps, a row.
ROW = 2
FIRST, SECOND = ROW, ROW + 3 + ROW  # calls before the first step of each stage
# Steps finished when the n-th call comes; the step in flight is finished first when there is time.
ENDED = {ROW // 2: 0, FIRST + 2: 2, FIRST + 4: 3, SECOND: 3, SECOND + 3: 6, SECOND + 3 + 1: 6, FIRST + 3 + 1: 3}
SETTINGS = [
    "fit",
    "--name=short",
    "--curriculum.stages=[{tasks: {code: 1, qa: 1}, steps: 3}, {tasks: {math: 1, writing: 1}, steps: 3}]",
    "--data.batch_size=2",
    "--model.sampling.group_size=4",
    "--model.kl.reference=stage",
    "--model.rollouts.updates_per_batch=2",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=2",
    "--checkpoints.every_n_steps=2",
]
# Seconds and what is computed from them differ between any two runs; and a resumed one runs programs again whose
# verdicts the other remembers.
TIMED = re.compile(r"seconds|per_second|/sandbox/")


def settings(directory: Path) -> list[str]:
    return [
        *SETTINGS,
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
    ]


def ended(directory: Path, call: int, signal_name: str) -> int | None:
    """Run in a process of its own until a signal ends it; its exit code."""
    callback = (
        f"[{{class_path: tests.callbacks.killer.EndAt, init_args: {{call: {call}, signal_name: {signal_name}}}}}]"
    )
    arguments = [*settings(directory), f"--trainer.callbacks={callback}"]
    process = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
    process.start()
    process.join()
    return process.exitcode


def last_checkpoint(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("short/*/last.ckpt")
    return torch.load(path, weights_only=True)


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    else:
        assert a == b, where


def histories(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert run.info.status == "FINISHED"
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if not TIMED.search(name)
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main.py"])
        main(settings(directory))
    return directory


@pytest.mark.parametrize(
    ("call", "signal_name"),
    [
        pytest.param(ROW // 2, "SIGKILL", id="killed in the evaluation of the base model"),
        pytest.param(FIRST + 2, "SIGKILL", id="killed inside a stage, behind its checkpoint"),
        pytest.param(FIRST + 4, "SIGKILL", id="killed at a stage boundary"),
        pytest.param(SECOND, "SIGKILL", id="killed in the evaluation between stages"),
        pytest.param(SECOND + 4, "SIGKILL", id="killed in the last evaluation"),
        pytest.param(FIRST + 2, "SIGTERM", id="told to end inside a stage"),
        pytest.param(SECOND + 3, "SIGTERM", id="told to end in the last step"),
        pytest.param(SECOND + 4, "SIGTERM", id="told to end in the last evaluation"),
        pytest.param(FIRST + 2, "SIGINT", id="Ctrl-C inside a stage"),
        pytest.param(FIRST + 4, "SIGINT", id="Ctrl-C in an evaluation"),
    ],
)
def test_law_7_a_resumed_run_equals_an_uninterrupted_one(
    call: int, signal_name: str, uninterrupted: Path, tmp_path: Path, tracking_uri: str
) -> None:
    code = ended(tmp_path, call, signal_name)
    if signal_name == "SIGKILL":
        assert code == -signal.SIGKILL
    steps_done = last_checkpoint(tmp_path)["steps_done"]
    assert steps_done <= ENDED[call], "the run must have been ended there"
    if signal_name != "SIGKILL":
        assert steps_done == ENDED[call], "a run that could save its last step has saved it"
    main([*settings(tmp_path), "--ckpt_path=last"])
    expected, got = last_checkpoint(uninterrupted), last_checkpoint(tmp_path)
    for part in ("state_dict", "optimizer_states", "steps_done", "reference"):
        assert_same(expected[part], got[part], part)
    assert_same(expected["callbacks"]["StageEvaluation"], got["callbacks"]["StageEvaluation"], "score matrix")
    assert_same(histories(uninterrupted), histories(tmp_path), "metrics")


def test_last_is_the_newest_run_of_this_kind_and_none_is_a_fresh_start(tmp_path: Path) -> None:
    assert find_checkpoint("last", tmp_path) is None
    assert find_checkpoint(None, tmp_path) is None
    for age, name in enumerate(["new", "old"]):
        path = tmp_path / name / "last.ckpt"
        path.parent.mkdir()
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert find_checkpoint("last", tmp_path) == tmp_path / "new" / "last.ckpt"


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"no file '.*nowhere\.ckpt'; give a checkpoint's path, or 'last'"):
        find_checkpoint(str(tmp_path / "nowhere.ckpt"), tmp_path)


def test_a_damaged_checkpoint_is_named_with_the_cure(uninterrupted: Path, tmp_path: Path) -> None:
    (whole,) = uninterrupted.glob("short/*/last.ckpt")
    damaged = tmp_path / "last.ckpt"
    good = whole.read_bytes()
    middle = len(good) // 2
    zeros = good[:middle] + bytes(4096) + good[middle + 4096 :]  # as after a loss of power
    for content in (good[:-5000], zeros, b"not a checkpoint", b""):
        damaged.write_bytes(content)
        with pytest.raises(ResumeError, match=r"last\.ckpt is damaged or not a checkpoint.*start anew without"):
            read_checkpoint(damaged, [Stage({"code": 1.0}, 3)])


def test_a_checkpoint_of_another_curriculum_is_refused(uninterrupted: Path) -> None:
    (path,) = uninterrupted.glob("short/*/last.ckpt")
    with pytest.raises(ResumeError, match=r"was trained with curriculum\.stages .* use the same config"):
        read_checkpoint(path, [Stage({"code": 1.0}, 3)])


def test_a_finished_run_is_not_continued_by_further_stages_but_its_policy_can_be(uninterrupted: Path) -> None:
    (path,) = uninterrupted.glob("short/*/last.ckpt")
    first = [Stage({"code": 1.0, "qa": 1.0}, 3), Stage({"math": 1.0, "writing": 1.0}, 3)]
    assert read_checkpoint(path, first).steps_done == 6
    with pytest.raises(ResumeError, match=r"is finished; .* --model\.policy=.*/policy"):
        read_checkpoint(path, [*first, Stage({"qa": 1.0}, 2)])
    assert (path.parent / "policy" / "model.safetensors").exists()
