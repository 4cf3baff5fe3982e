"""Whatever raises ``StopIteration`` or ``SystemExit`` in a fit makes it a failed run, never a finished one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from main import main
from omnithink_pl.endings import no_silent_end
from omnithink_pl.errors import OmniThinkError, RunEnded
from omnithink_pl.sources.base import Source
from omnithink_pl.tracking.mlflow_artifacts import MLflowArtifacts
from omnithink_pl.tracking.store import connect
from omnithink_pl.types import Example

ROOT = Path(__file__).resolve().parents[1]
RAISED = {"stop": StopIteration("done"), "exit": SystemExit(0)}


class Ends(L.Callback):
    """Before step 1, makes a part of the run raise something when it is used next."""

    def __init__(self, part: str, raised: str) -> None:
        self.part, self.raised = part, raised

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if pl_module.steps_done != 1:
            return
        writing, _ = pl_module.tasks["writing"].rubric.rewards[0]
        if self.part == "callback":
            self.fail()
        owner, name = {"judge": (writing.judge, "compare"), "engine": (pl_module.engine, "generate")}[self.part]
        setattr(owner, name, self.fail)

    def fail(self, *args: object, **kwargs: object) -> None:
        raise RAISED[self.raised]


class EndingSource(Source):
    """Ends where others load their rows."""

    def examples(self, task: str, split: str) -> list[Example]:
        raise RAISED["exit"]


def settings(directory: Path, *more: str) -> list[str]:
    return [
        "fit",
        "--name=ends",
        "--curriculum.stages=[{tasks: {writing: 1}, steps: 2}]",
        "--data.batch_size=2",
        "--model.sampling.group_size=2",
        "--evaluation.evaluator.prompts=2",
        "--evaluation.evaluator.samples=1",
        "--checkpoints.save_policy=false",
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
        *more,
    ]


def ending(part: str, raised: str) -> str:
    arguments = f"{{part: {part}, raised: {raised}}}"
    return f"--trainer.callbacks=[{{class_path: tests.test_silent_ends.Ends, init_args: {arguments}}}]"


def status(directory: Path) -> list[str]:
    client = connect(f"sqlite:///{directory}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


@pytest.mark.parametrize(
    ("part", "raised", "message"),
    [
        ("judge", "stop", r"the reward 'writing' raised StopIteration\('done'\)"),
        ("engine", "stop", r"a step raised StopIteration\('done'\) in .*test_silent_ends\.py, line \d+"),
        pytest.param("callback", "exit", r"fit raised SystemExit\(0\)", marks=pytest.mark.slow),
    ],
)
def test_a_fit_that_something_ends_has_failed(
    part: str, raised: str, message: str, tmp_path: Path, tracking_uri: str
) -> None:
    with pytest.raises(OmniThinkError, match=message):
        main(settings(tmp_path, ending(part, raised)))
    assert status(tmp_path) == ["FAILED"]


def test_a_source_that_exits_has_failed(tmp_path: Path, tracking_uri: str) -> None:
    source = "--data.tasks.writing.init_args.source=tests.test_silent_ends.EndingSource"
    with pytest.raises(RunEnded, match=r"fit raised SystemExit\(0\)"):
        main(settings(tmp_path, source))


@pytest.mark.slow
def test_the_exit_code_is_1_and_the_cause_one_line(tmp_path: Path, tracking_uri: str) -> None:
    command = [sys.executable, "main.py", *settings(tmp_path, ending("judge", "stop"))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "error: the reward 'writing' raised StopIteration('done')" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert status(tmp_path) == ["FAILED"]


@pytest.mark.slow
def test_the_exit_code_after_sigterm_is_no_success(tmp_path: Path, tracking_uri: str) -> None:
    end = "[{class_path: tests.callbacks.killer.EndAt, init_args: {call: 3, signal_name: SIGTERM}}]"
    command = [sys.executable, "main.py", *settings(tmp_path, f"--trainer.callbacks={end}")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert status(tmp_path) == ["KILLED"]
    assert len(list(tmp_path.rglob("last.ckpt"))) == 1


@pytest.mark.parametrize("meant", [SIGTERMException(), KeyboardInterrupt(), ZeroDivisionError()])
def test_ends_that_are_meant_and_errors_pass_as_they_are(meant: BaseException) -> None:
    with pytest.raises(type(meant)) as passed, no_silent_end("it"):
        raise meant
    assert passed.value is meant


def test_the_exit_after_ctrl_c_stays_one() -> None:
    @no_silent_end("it")
    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit):
        interrupted()


def told_to_end(*rest: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(*rest: object) -> None:
    raise KeyboardInterrupt  # a shell has its background jobs ignore the signal itself


@pytest.mark.parametrize("end", [told_to_end, interrupted])
def test_a_verb_that_is_told_to_end_leaves_no_run_that_seems_to_run(
    end: Callable[..., None], tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    completions = tmp_path / "completions.jsonl"
    completions.write_text('{"task": "qa", "question": "What?", "reference": "2", "completion": "2"}\n')
    monkeypatch.setattr(MLflowArtifacts, "table", end)
    with pytest.raises((SIGTERMException, KeyboardInterrupt)):
        main(["score", f"--completions={completions}", f"--trainer.logger.init_args.tracking_uri={tracking_uri}"])
    assert status(Path(tracking_uri.removeprefix("sqlite:///")).parent) == ["KILLED"]
