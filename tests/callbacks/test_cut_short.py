"""Whatever is cut short while it is tracked, by Ctrl-C or by the store, is there after the run has been resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.artifacts import load_text

from callbacks.checkpoints import Checkpoints
from callbacks.tracking import Tracking
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.store import TrackingError
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer
from tests.callbacks.test_tracking import config, files, history, only_run

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")
CALLS = 9  # the base model, three steps, a row, two steps, a row, and the final scores


class CutShort(TrackingLogger):
    """Fails once, before it has stored what it is given the n-th time."""

    def __init__(self, uri: str, at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__(tracking_uri=uri)
        self.at, self.error, self.calls = at, error, 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.calls += 1
        if self.error is not None and self.calls == self.at:
            raise self.error
        super().log_metrics(metrics, step)


def fit(directory: Path, logger: CutShort, ckpt_path: Path | None = None) -> Checkpoints:
    checkpoints = Checkpoints(every_n_steps=1, save_policy=False, folder="run")
    callbacks = [evaluation(), Tracking("curriculum"), config(), checkpoints, curriculum()]
    run = trainer(directory, callbacks, logger, enable_progress_bar=False)
    if ckpt_path is not None:
        checkpoints.resume(ckpt_path)
    run.fit(CountingModule(), CountedData(), ckpt_path=ckpt_path)
    return checkpoints


def left(uri: str, checkpoint: Path) -> dict[str, Any]:
    """What a finished run left."""
    run = only_run(uri)
    assert run.info.status == "FINISHED"
    state = torch.load(checkpoint, weights_only=True)
    tables = [path for folder in ("rollouts", "prompt_scores") for path in files(uri, run, folder)]
    return {
        "metrics": {name: history(uri, run, name) for name in run.data.metrics},
        "tables": {path: json.loads(load_text(f"{run.info.artifact_uri}/{path}")) for path in tables},
        "matrix": load_text(f"{run.info.artifact_uri}/score_matrix.json"),
        "figures": files(uri, run, "figures"),
        "state": (state["steps_done"], state["state_dict"], state["callbacks"]["StageEvaluation"]),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("whole")
    shutil.copy(empty_store, directory / "mlflow.db")
    uri = f"sqlite:///{directory}/mlflow.db"
    logger = CutShort(uri)
    checkpoints = fit(directory, logger)
    assert logger.calls == CALLS
    return left(uri, checkpoints.path)


@pytest.mark.parametrize(
    ("at", "error"),
    [
        *((at, KeyboardInterrupt()) for at in range(1, CALLS + 1)),
        *((at, TrackingError("the disk is full")) for at in (1, 3, 5, CALLS)),
    ],
)
def test_law_13_a_run_whose_tracking_was_cut_short_is_completed_by_the_resumed_one(
    at: int, error: BaseException, whole: dict[str, Any], tmp_path: Path, tracking_uri: str
) -> None:
    with pytest.raises((SystemExit, TrackingError)):
        fit(tmp_path, CutShort(tracking_uri, at, error))
    checkpoint = tmp_path / "run" / "run" / "last.ckpt"
    fit(tmp_path, CutShort(tracking_uri), checkpoint)
    assert left(tracking_uri, checkpoint) == whole
