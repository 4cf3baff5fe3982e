from __future__ import annotations

import json
import math
import os
import resource
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from mlflow.tracking import MlflowClient

from omnithink_pl.tracking import TrackingError, TrackingLogger
from omnithink_pl.tracking.logger import check_distinct, metric_name
from omnithink_pl.tracking.runs import Owner


def points(logger: TrackingLogger, name: str) -> list[tuple[int, float]]:
    """Read with MLflow alone, without the code under test."""
    return [(p.step, p.value) for p in MlflowClient(logger.tracking_uri).get_metric_history(logger.version, name)]


def status(logger: TrackingLogger) -> str:
    return MlflowClient(logger.tracking_uri).get_run(logger.version).info.status


@pytest.fixture
def logger(tracking_uri: str) -> TrackingLogger:
    return TrackingLogger(tracking_uri=tracking_uri)


def resumed(logger: TrackingLogger) -> TrackingLogger:
    again = TrackingLogger(tracking_uri=logger.tracking_uri)
    again.resume(logger.run_id)
    return again


def test_a_name_is_stored_so_that_it_stays_distinct() -> None:
    names = ["train/math/reward", "eval/code/pass@1", "eval/code/pass1", "eval/a:b"]
    stored = ["train/math/reward", "eval/code/pass_at_1", "eval/code/pass1", "eval/a_b"]
    assert [metric_name(name) for name in names] == stored
    check_distinct(names)
    with pytest.raises(ValueError, match="'a:b' and 'a_b'"):
        check_distinct(["a:b", "a_b"])


def test_making_a_logger_opens_no_store_and_opening_the_store_creates_no_run(tmp_path: Path) -> None:
    """Every process makes one, and every verb."""
    logger = TrackingLogger(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert (logger.save_dir, logger.version, list(tmp_path.iterdir())) == (None, None, [])
    experiment = logger.experiment.get_experiment_by_name("omnithink")
    assert logger.version is None
    assert logger.experiment.search_runs([experiment.experiment_id]) == []


def test_a_step_is_stored_with_its_step_and_every_value(logger: TrackingLogger) -> None:
    logger.log_metrics({"train/math/reward": 0.25, "train/kl": torch.tensor(0.5)}, step=3)
    logger.log_metrics({"train/math/reward": 0.75}, step=4)
    assert points(logger, "train/math/reward") == [(3, 0.25), (4, 0.75)]
    assert points(logger, "train/kl") == [(3, 0.5)]
    # What is not finite is left out and counted.
    logger.log_metrics({"train/math/reward": math.inf, "train/kl": math.nan, "train/entropy": 1.0}, step=5)
    latest = {"train/math/reward": 0.75, "train/kl": 0.5, "train/entropy": 1.0, "train/non_finite": 2.0}
    assert logger.latest() == latest


def test_a_resumed_run_ends_with_the_history_of_an_uninterrupted_one(logger: TrackingLogger) -> None:
    """Killed after step 5, resumed from a checkpoint of step 2: steps 3 to 5 are computed twice."""
    for step in range(6):
        logger.log_metrics({"train/loss": float(step), "eval/math": 0.5} if step == 0 else {"train/loss": step}, step)
    again = resumed(logger)
    for step in range(3, 8):
        again.log_metrics({"train/loss": float(step), "train/new": 0.0}, step)
    again.log_metrics({"eval/math": 0.75}, 8)
    expected = {
        "train/loss": [(step, float(step)) for step in range(8)],
        "train/new": [(step, 0.0) for step in range(3, 8)],
        "eval/math": [(0, 0.5), (8, 0.75)],
    }
    assert again.version == logger.version
    # What is held in memory is what the store has, points of before the kill included.
    assert {name: points(again, name) for name in expected} == expected
    assert {name: again.history(name) for name in expected} == expected
    assert again.latest() == MlflowClient(again.tracking_uri).get_run(again.version).data.metrics


def test_a_resumed_run_shows_as_running_until_it_ends_and_keeps_its_parameters(logger: TrackingLogger) -> None:
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")
    assert status(logger) == "FINISHED"
    again = resumed(logger)
    again.log_hyperparams({"lr": 0.2, "beta": 1})
    assert status(again) == "RUNNING"
    assert again.experiment.get_run(again.run_id).data.params == {"lr": "0.1", "beta": "1"}
    again.finalize("success")
    assert status(again) == "FINISHED"


class _Failing(BoringModel):
    """Training that ends in an exception at its first step, or in none."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def on_train_batch_start(self, *args: object) -> None:
        if isinstance(self.error, SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.error is not None:
            raise self.error


SIGTERM = SystemExit("stands for SIGTERM")
STATUSES = [(None, "FINISHED"), (ValueError("broken"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SIGTERM, "KILLED")]


@pytest.mark.parametrize(("error", "expected"), STATUSES)
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*log_every_n_steps.*")
def test_a_run_shows_as_what_it_is(
    logger: TrackingLogger, tmp_path: Path, error: BaseException | None, expected: str
) -> None:
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", logger=logger, max_steps=2, default_root_dir=tmp_path, **quiet)
    logger.log_metrics({"eval/mean": 0.5}, 0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        trainer.fit(_Failing(error))
    except (ValueError, SystemExit):
        assert error is not None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert status(logger) == expected


def test_a_killed_run_keeps_its_points_and_is_closed_by_the_next_run(logger: TrackingLogger) -> None:
    child = os.fork()
    if child == 0:
        try:
            logger.log_metrics({"a": 1.0}, 0)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    client = MlflowClient(logger.tracking_uri)
    (dead,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert (dead.info.status, dead.data.metrics) == ("RUNNING", {"a": 1.0})
    logger.log_metrics({"a": 2.0}, 0)
    assert client.get_run(dead.info.run_id).info.status == "KILLED"
    assert status(logger) == "RUNNING"


def test_a_run_that_another_process_still_writes_is_not_resumed(logger: TrackingLogger) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(Owner.current().tags()).encode())
        signal.pause()
    logger.set_tags(json.loads(os.read(reader, 10_000)))
    try:
        with pytest.raises(TrackingError, match=f"still being written by process {child}"):
            resumed(logger).log_metrics({"a": 1.0}, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    resumed(logger).log_metrics({"a": 1.0}, 0)
    assert points(logger, "a") == [(0, 1.0)]


def test_a_run_of_another_store_and_a_deleted_experiment_are_clear_errors(logger: TrackingLogger) -> None:
    logger.resume("0" * 32)
    with pytest.raises(TrackingError, match=r"tracking_uri.*is not in this store.*--ckpt_path"):
        logger.log_metrics({"a": 1.0}, 0)
    experiment = logger.experiment.get_experiment_by_name("omnithink")
    logger.experiment.delete_experiment(experiment.experiment_id)
    with pytest.raises(TrackingError, match=r"experiment_name.*'omnithink' was deleted.*restore"):
        _ = TrackingLogger(tracking_uri=logger.tracking_uri).experiment


def test_a_full_disk_is_a_clear_error_and_closing_the_run_does_not_hide_it(logger: TrackingLogger) -> None:
    """A limit on the size of files stands for the full disk."""
    logger.log_metrics({"a": 1.0}, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with (
            pytest.warns(UserWarning, match="cannot close the run"),
            pytest.raises(TrackingError, match=r"tracking_uri: cannot log metrics at sqlite.*free space"),
        ):
            log_and_close(logger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    logger.log_metrics({"a": 3.0}, 2)
    assert points(logger, "a") == [(0, 1.0), (1, 2.0), (2, 3.0)], "what the disk refused arrives when there is room"


def log_and_close(logger: TrackingLogger) -> None:
    """What Lightning does when logging raises: it closes the run, then raises."""
    try:
        logger.log_metrics({"a": 2.0}, 1)
    except TrackingError:
        logger.finalize("failed")
        raise


def test_an_artifact_lies_beside_the_database_and_is_replaced_not_appended(
    logger: TrackingLogger, tmp_path: Path
) -> None:
    from mlflow.artifacts import load_text

    for _ in range(2):
        logger.artifacts.table({"prompt": ["a", "b"], "total": [1.0, None]}, "rollouts/1_code.json")
    run = logger.experiment.get_run(logger.run_id)
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    text = load_text(f"{run.info.artifact_uri}/rollouts/1_code.json")
    assert text == '{"columns": ["prompt", "total"], "data": [["a", 1.0], ["b", null]]}'
    assert run.data.tags["mlflow.loggedArtifacts"] == '[{"path": "rollouts/1_code.json", "type": "table"}]'
