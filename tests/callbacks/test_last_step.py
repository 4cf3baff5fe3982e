"""A run that is ended in or behind its last step, and resumed, ends like one that was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoints import Checkpoints
from callbacks.lookups import StageCallback
from callbacks.tracking import Tracking
from omnithink_pl.curriculum.stages import StageRun
from omnithink_pl.endings import sigterm_raises
from omnithink_pl.errors import BadInput
from omnithink_pl.tracking import TrackingLogger
from tests.callbacks.fit import STAGES, CountedData, CountingModule, RisingEvaluator, curriculum, evaluation, trainer
from tests.callbacks.test_tracking import only_run

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")
TOTAL = sum(stage.steps for stage in STAGES)


class Told(StageCallback):
    """Sends this process a signal at one place of the end."""

    def __init__(self, place: str, number: signal.Signals) -> None:
        self.place, self.number = place, number

    def tell(self, place: str) -> None:
        if place == self.place:
            os.kill(os.getpid(), self.number)

    def on_stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule, run: StageRun) -> None:
        if run.is_last:
            self.tell("stage end")

    def on_train_epoch_end(self, *rest: Any) -> None:
        self.tell("epoch end")

    def on_train_end(self, *rest: Any) -> None:
        self.tell("train end")

    def on_fit_end(self, *rest: Any) -> None:
        self.tell("export")


def fit(uri: str, directory: Path, told: Told | None = None, resumed: Path | None = None, **limits: Any) -> Checkpoints:
    # The order of `callbacks.CALLBACKS`: a signal comes before the others have done what the hook asks of them.
    checkpoints = Checkpoints(save_policy=False, every_n_steps=100)
    callbacks = [evaluation(), *([told] if told else []), Tracking(), checkpoints, curriculum()]
    made = trainer(directory, callbacks, TrackingLogger(tracking_uri=uri), enable_progress_bar=False, **limits)
    if resumed is not None:
        checkpoints.resume(resumed)
    with sigterm_raises():
        made.fit(CountingModule(), CountedData(), ckpt_path=resumed, weights_only=True)
    return checkpoints


@pytest.mark.parametrize(
    ("place", "number"),
    [
        *((place, signal.SIGTERM) for place in ("step", "evaluation", "stage end", "epoch end", "train end", "export")),
        ("stage end", signal.SIGINT),
        ("export", signal.SIGINT),
    ],
)
def test_a_run_told_to_end_at_its_very_end_is_killed_and_finished_by_its_resumption(
    place: str, number: signal.Signals, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(place, number)

    def measure(self: RisingEvaluator, policy: Any, engine: Any, tasks: Any, *rest: Any) -> dict[str, Any]:
        if policy.steps_done() == TOTAL:
            told.tell("evaluation")
        return {task: self.result(policy) for task in tasks}

    def step(self: CountingModule, batch: Any, batch_idx: int) -> None:
        if self.steps_done == TOTAL - 1:
            told.tell("step")
        training_step(self, batch, batch_idx)

    training_step = CountingModule.training_step
    with monkeypatch.context() as patch:
        patch.setattr(RisingEvaluator, "measure", measure)
        patch.setattr(CountingModule, "training_step", step)
        with pytest.raises(SIGTERMException if number == signal.SIGTERM else SystemExit):
            fit(tracking_uri, tmp_path, told)
    assert only_run(tracking_uri).info.status == "KILLED"
    (path,) = tmp_path.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["steps_done"] == TOTAL
    fit(tracking_uri, tmp_path, resumed=path)
    run = only_run(tracking_uri)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["after/eval/mean"] == pytest.approx(0.4)
    assert run.data.metrics["train/math/reward"] == TOTAL / 10
    assert torch.load(path, weights_only=True)["callbacks"]["StageEvaluation"]["matrix"]["labels"][-1] == "2 math"


def test_a_run_that_a_limit_has_ended_goes_on_without_the_limit(tmp_path: Path, tracking_uri: str) -> None:
    """Lightning takes an epoch that a limit has ended for a whole one, and would skip the rest."""
    told = Told("epoch end", signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        fit(tracking_uri, tmp_path, told, limit_train_batches=2)
    (path,) = tmp_path.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["steps_done"] == 2
    fit(tracking_uri, tmp_path, resumed=path)
    assert only_run(tracking_uri).info.status == "FINISHED"
    assert torch.load(path, weights_only=True)["steps_done"] == TOTAL


def test_a_named_folder_with_the_checkpoint_of_another_run_is_refused(tmp_path: Path, tracking_uri: str) -> None:
    def begin() -> None:
        callbacks = [evaluation(), Checkpoints(save_policy=False, folder="mine"), curriculum()]
        trainer(tmp_path, callbacks, enable_progress_bar=False).fit(CountingModule(), CountedData())

    begin()
    with pytest.raises(
        BadInput, match=r"checkpoints\.folder: .*mine has the checkpoint of another run; .*--ckpt_path="
    ):
        begin()
