"""With everything that keeps a state of its own, a run that was ended anywhere still equals one that was not."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import sys
from pathlib import Path

import pytest

from main import main
from tests.callbacks.test_resume import ROW, assert_same, histories, last_checkpoint, settings

pytestmark = pytest.mark.slow

EVERYTHING = [
    "--curriculum.stages=[{tasks: {code: 1, qa: 1}, steps: 4}, {tasks: {math: 1, qa: 1}, steps: 2}]",
    "--data.task_sampler={class_path: omnithink_pl.data.samplers.AdaptiveSampler, init_args: {task_memory: 4}}",
    "--model.rollouts.async_rewards=true",
    "--model.rollouts.refill_rounds=1",
    "--model.kl.targets={qa: 0.001, code: 0.5}",
    "--model.rollouts.updates_per_batch=1",
    "--checkpoints.every_n_steps=1",
]
# The state of the loader, which holds the samplers' and what has been drawn ahead, lies in the loop.
PARTS = ("state_dict", "optimizer_states", "steps_done", "rollouts", "kl", "failures", "loops")


def fit(directory: Path, *more: str) -> None:
    main([*settings(directory), *EVERYTHING, *more])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main.py"])
        fit(directory)
    return directory


@pytest.mark.parametrize(
    ("call", "signal_name"),
    [
        pytest.param(ROW + 4, "SIGKILL", id="killed behind a checkpoint with rollouts on their way"),
        pytest.param(ROW + 3, "SIGTERM", id="told to end with rollouts on their way"),
    ],
)
def test_law_7_a_resumed_run_equals_an_uninterrupted_one(
    call: int, signal_name: str, uninterrupted: Path, tmp_path: Path, tracking_uri: str
) -> None:
    killer = f"[{{class_path: tests.callbacks.killer.EndAt, init_args: {{call: {call}, signal_name: {signal_name}}}}}]"
    process = multiprocessing.get_context("fork").Process(target=fit, args=(tmp_path, f"--trainer.callbacks={killer}"))
    process.start()
    process.join()
    assert (process.exitcode == -signal.SIGKILL) == (signal_name == "SIGKILL")
    saved = last_checkpoint(tmp_path)
    assert 0 < saved["steps_done"] < 4
    assert [one["step"] for one in saved["rollouts"]["pending"]] == [saved["steps_done"]]
    fit(tmp_path, "--ckpt_path=last")
    expected, got = last_checkpoint(uninterrupted), last_checkpoint(tmp_path)
    for part in PARTS:
        assert_same(expected[part], got[part], part)
    assert_same(histories(uninterrupted), histories(tmp_path), "metrics")


def test_the_run_did_what_it_is_meant_to_test(uninterrupted: Path) -> None:
    metrics = histories(uninterrupted)
    assert [step for step, _ in metrics["train/stale_groups"]] == [1, 2, 3, 4, 5, 6]
    assert [value > 0 for _, value in metrics["train/stale_groups"]] == [False, True, True, True, False, True]
    assert sum(value for _, value in metrics["train/replaced_groups"]) > 0
    assert any(value < 1 for _, value in metrics["train/qa/learnability"])
    betas = [value for _, value in metrics["train/qa/beta"]]
    assert betas != sorted(betas, reverse=True) or betas[0] != betas[-1]


def test_without_a_next_step_to_look_ahead_to_asynchronous_rewards_are_synchronous(
    tmp_path: Path, empty_store: Path
) -> None:
    for name in ("true", "false"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_store, tmp_path / name / "mlflow.db")
        fit(
            tmp_path / name,
            "--curriculum.stages=[{tasks: {qa: 1}, steps: 1}, {tasks: {math: 1}, steps: 1}]",
            f"--model.rollouts.async_rewards={name}",
        )
    ours, theirs = last_checkpoint(tmp_path / "true"), last_checkpoint(tmp_path / "false")
    for part in ("state_dict", "optimizer_states", "kl"):
        assert_same(ours[part], theirs[part], part)
