"""A fit that ends before its plan, for no reason that anybody gave, has failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest

from callbacks.tracking import Tracking
from omnithink_pl.errors import RunEnded
from omnithink_pl.tracking import TrackingLogger
from tests.callbacks.fit import (
    STAGES,
    CountedData,
    CountingModule,
    RisingEvaluator,
    curriculum,
    evaluation,
    trainer,
)
from tests.callbacks.test_tracking import only_run

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")
TOTAL = sum(stage.steps for stage in STAGES)


class RaisesIn(L.Callback):
    """Raises in one hook, once some steps are done."""

    def __init__(self, hook: str, error: BaseException, steps: int) -> None:
        self.error, self.steps = error, steps
        setattr(self, hook, self.fail)

    def fail(self, trainer: L.Trainer, pl_module: CountingModule, *rest: Any) -> None:
        if pl_module.steps_done == self.steps:
            raise self.error


def fit(uri: str, directory: Path, *more: L.Callback, module: CountingModule | None = None, **limits: Any) -> int:
    """Run a tracked fit, and return the steps done."""
    module = module or CountingModule()
    callbacks = [evaluation(), *more, curriculum()]
    made = trainer(directory, callbacks, TrackingLogger(tracking_uri=uri), enable_progress_bar=False, **limits)
    made.fit(module, CountedData())
    return module.steps_done


STOPPED = rf"of {TOTAL} steps, before the end of its last stage and without an error: .*raised StopIteration"


@pytest.mark.parametrize(
    ("hook", "steps"),
    [
        ("on_train_epoch_start", 0),
        ("on_train_batch_start", 0),
        ("on_train_batch_start", TOTAL - 1),
        ("on_train_batch_end", TOTAL),
    ],
)
def test_a_callback_that_stops_the_iteration(hook: str, steps: int, tmp_path: Path, tracking_uri: str) -> None:
    with pytest.raises(RunEnded, match=rf"training ended after {steps} {STOPPED}"):
        fit(tracking_uri, tmp_path, RaisesIn(hook, StopIteration(), steps))
    assert only_run(tracking_uri).info.status == "FAILED"


def test_a_step_that_stops_the_iteration(tmp_path: Path, tracking_uri: str) -> None:
    with pytest.raises(RunEnded, match=rf"training ended after 1 {STOPPED}"):
        fit(tracking_uri, tmp_path, module=CountingModule(fail_at=1, error=StopIteration()))
    assert only_run(tracking_uri).info.status == "FAILED"


def test_an_evaluation_that_stops_the_iteration_after_the_last_step(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conclude(self: RisingEvaluator, measured: dict[str, Any], max_failed: float) -> dict[str, Any]:
        if measured["code"].score.sampled > 0.2 + 0.04 * (TOTAL - 0.5):
            raise StopIteration
        return measured

    monkeypatch.setattr(RisingEvaluator, "conclude", conclude)
    with pytest.raises(RunEnded, match=rf"training ended after {TOTAL} {STOPPED}"):
        fit(tracking_uri, tmp_path)
    assert only_run(tracking_uri).info.status == "FAILED"


def test_a_callback_that_exits_has_failed_and_was_not_killed(tmp_path: Path, tracking_uri: str) -> None:
    with pytest.raises(SystemExit):
        fit(tracking_uri, tmp_path, RaisesIn("on_train_batch_start", SystemExit(0), 1))
    assert only_run(tracking_uri).info.status == "FAILED"


class Stops(L.Callback):
    """Ends training as Lightning's own callbacks do."""

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("callbacks", "limits"), [([], {"limit_train_batches": 1}), ([Stops], {}), ([], {})], ids=["limit", "stop", "whole"]
)
def test_a_fit_is_finished_only_when_all_its_steps_are_done(
    callbacks: list[type[L.Callback]], limits: dict[str, Any], tmp_path: Path, tracking_uri: str
) -> None:
    steps = fit(tracking_uri, tmp_path, Tracking(), *(callback() for callback in callbacks), **limits)
    assert steps in (1, TOTAL)
    assert only_run(tracking_uri).info.status == ("FINISHED" if steps == TOTAL else "KILLED")
