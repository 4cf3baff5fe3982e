"""A real study of two runs: killed, taken up again, finished, and then left alone."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

from main import CONFIGS, main
from omnithink_pl.study.tool import StudyIncomplete
from omnithink_pl.tracking.reader import search_runs

STEPS = 4
KILLED_AT = 2


@pytest.fixture
def path(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study's file."""
    monkeypatch.setattr(sys, "argv", [str(CONFIGS.parent / "main.py")])
    stages = [f"--curriculum.stages=[{{tasks: {{{task}: 1}}, steps: {STEPS}}}]" for task in ("qa", "math")]
    killer = f"[{{class_path: tests.study.killer.KillStudyAt, init_args: {{step: {KILLED_AT}}}}}]"
    settings = {
        "name": "tiny",
        "runs": {
            "first": {"arguments": [stages[0], f"--trainer.callbacks={killer}"]},
            "second": {"arguments": [stages[1]]},
        },
        "seeds": [5],
        "arguments": {
            "fit": ["--data.batch_size=2", "--evaluation.evaluator.prompts=2", "--evaluation.evaluator.samples=1"]
        },
        "jobs": 1,
        "output": str(tmp_path / "out"),
        "tracking_uri": tracking_uri,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "study.yaml"


def study(path: Path, *arguments: str) -> None:
    main(["study", f"--config={path}", *arguments])


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_and_does_nothing_twice(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = multiprocessing.get_context("fork").Process(target=study, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    study(path)
    client = MlflowClient(f"sqlite:///{path.parent}/mlflow.db")
    children = search_runs(client, ["1"], {"study.part": "run"})
    ended = sorted((run.data.tags["study.run"], run.info.status) for run in children)
    assert ended == [("first", "FINISHED"), ("second", "FINISHED")]
    for run in children:
        (task,) = {"qa", "math"} & {run.data.tags["stages"]}
        steps = [point.step for point in client.get_metric_history(run.info.run_id, f"train/{task}/reward")]
        assert steps == list(range(1, STEPS + 1))
    (parent,) = search_runs(client, ["1"], {"study.part": "parent"})
    assert parent.info.status == "FINISHED"
    (log,) = path.parent.glob("out/tiny/seed_5/first/*/log.txt")
    assert "resumed at step" in log.read_text()
    capsys.readouterr()
    study(path)
    assert "2 finished before" in capsys.readouterr().out


def test_commands_are_printed_and_nothing_is_run_or_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "mlflow.db").unlink()
    study(path, "--dry_run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# first/5", "# second/5"]
    assert all(f"{CONFIGS.parent / 'main.py'} fit " in line and "--seed_everything=5" in line for line in lines[1::2])
    study(path, "--list_jobs", "--only=[second]")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("'--only=[second/5]'")
    assert sorted(file.name for file in path.parent.iterdir()) == ["study.yaml"]


def test_a_failure_ends_the_study_with_the_command_to_repeat(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its program is no main.py: it ends at once."""
    broken = path.parent / "broken.py"
    broken.write_text("import sys; sys.exit('error: no such thing')")
    sys.argv[:] = [str(broken)]
    with pytest.raises(StudyIncomplete, match="some runs failed; the same command tries them again"):
        study(path, "--only=[first]")
    out = capsys.readouterr().out
    assert "first/5 failed with exit code 1: error: no such thing" in out
    assert f"{broken} '--only=[first/5]'" in out
