"""A fit whose judge is killed half-way: it stops or continues as configured, and no reward is made up."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from main import CONFIGS, main
from omnithink_pl.errors import RewardFailure
from tests.callbacks.test_resume import assert_same, histories
from tests.judge.scripted import ScriptedServer, scripted_server

pytestmark = pytest.mark.slow
STEPS, KILLED = 5, 2
NO_CACHE = "--data.tasks.writing.init_args.judge.init_args.cache=null"


class Outage(L.Callback):
    """Kills the judge's process when ``step`` steps are done, and at ``back`` starts another at the same port."""

    started: ScriptedServer | None = None

    def __init__(self, pid: int, port: int, step: int, back: int | None = None) -> None:
        self.pid, self.port, self.step, self.back = pid, port, step, back

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if pl_module.steps_done == self.step:
            os.kill(self.pid, signal.SIGKILL)
        if pl_module.steps_done == self.back:
            type(self).started = ScriptedServer(self.port)


def settings(directory: Path, server: ScriptedServer, *more: str) -> list[str]:
    judge = "--data.tasks.writing.init_args.judge.init_args"
    return [
        "fit",
        f"--config={CONFIGS / 'judge' / 'openai.yaml'}",
        "--name=short",
        f"--curriculum.stages=[{{tasks: {{qa: 1, writing: 1}}, steps: {STEPS}}}, {{tasks: {{math: 1}}, steps: 1}}]",
        "--data.batch_size=2",
        "--model.sampling.group_size=4",
        "--model.sampling.temperature=0.3",  # nearly greedy: every completion has an answer for the judge
        "--model.failures.max_rate=0.5",
        "--model.failures.window=1",
        "--evaluation.evaluator.prompts=2",
        "--evaluation.evaluator.samples=1",
        "--checkpoints.every_n_steps=10",
        f"{judge}.endpoint.base_url={server.url}",
        f"{judge}.endpoint.api_key_env=null",
        f"{judge}.endpoint.attempts=2",
        f"{judge}.endpoint.longest_wait=0.01",
        f"{judge}.cache={directory}/judge.sqlite",
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
        *more,
    ]


def outage(server: ScriptedServer, back: int | None = None) -> str:
    arguments = f"{{pid: {server.process.pid}, port: {server.port}, step: {KILLED}, back: {back or 'null'}}}"
    return f"--trainer.callbacks=[{{class_path: tests.judge.test_outage.Outage, init_args: {arguments}}}]"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[str, list[tuple[int, float]]]:
    directory = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, directory / "mlflow.db")
    with scripted_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["main.py"])
        main(settings(directory, server))
    return histories(directory)


def test_stopped_with_the_cause_and_resumed_it_equals_an_undisturbed_run(
    undisturbed: dict[str, list[tuple[int, float]]], tmp_path: Path, tracking_uri: str
) -> None:
    with scripted_server() as server, pytest.raises(RewardFailure, match=r"writing: 4 of 4 .*connection failed"):
        main(settings(tmp_path, server, outage(server)))
    with scripted_server(server.port) as again:
        main(settings(tmp_path, again, "--ckpt_path=last"))
    assert_same(undisturbed, histories(tmp_path), "metrics")


def test_paused_the_others_go_on_and_the_task_comes_back(
    undisturbed: dict[str, list[tuple[int, float]]], tmp_path: Path, tracking_uri: str
) -> None:
    pause = ["--model.failures.on_outage=pause", "--model.failures.retry_after=1"]
    with scripted_server() as server:
        main(settings(tmp_path, server, *pause, outage(server, back=KILLED + 2)))
    assert Outage.started is not None
    Outage.started.kill()
    got = histories(tmp_path)
    for task, metric in (("qa", "reward"), ("qa", "total"), ("writing", "reward"), ("writing", "judge/win_rate")):
        name = f"train/{task}/{metric}"
        same = KILLED + 1 if task == "qa" else KILLED  # the step that the outage hit has qa's rewards as ever
        assert got[name][:same] == undisturbed[name][:same]
    assert [step for step, _ in got["train/qa/reward"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in got["train/writing/reward"]] == [1, 2, 5], "3 failed, 4 was paused"
    assert got["train/writing/failed/judge_connection_failed"] == [(3, 4.0)]
    assert got["train/paused_tasks"] == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 0.0), (6, 0.0)]
    assert got["train/qa/share"] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 1.0), (5, 0.5)]
    assert [step for step, _ in got["train/math/reward"]] == [6]


def test_an_evaluation_without_its_judge_has_no_score_and_no_mean_and_says_so(
    tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server() as server:
        main(settings(tmp_path, server, "--model.failures.on_outage=pause", outage(server), NO_CACHE))
    got = histories(tmp_path)
    assert got["uncertainty/unmeasured_tasks"] == [(0, 0.0), (STEPS, 1.0), (STEPS + 1, 1.0)]
    for name in ("eval/writing", "eval/writing/greedy", "eval/mean", "eval/mean/greedy"):
        assert [step for step, _ in got[name]] == [0], name
    assert got["uncertainty/writing/failed"][1:] == [(STEPS, 1.0), (STEPS + 1, 1.0)]
    assert [step for step, _ in got["eval/qa"]] == [0, STEPS, STEPS + 1]
    assert "after/eval/qa" in got
    assert not {"after/eval/writing", "after/eval/mean", "forgetting/writing", "forgetting/mean"} & got.keys()
    table = capsys.readouterr().out.split("Score in percent")[1].splitlines()
    assert [line.split()[-2:] for line in table if line.startswith(("after math", "forgotten  "))] == [["-", "-"]] * 2


def test_the_base_model_is_not_evaluated_without_its_judge(tmp_path: Path, tracking_uri: str) -> None:
    with scripted_server() as server:
        server.script(always="500")
        with pytest.raises(
            RewardFailure, match=r"evaluation: of writing, .*could not be scored .judge server error.*--ckpt_path last"
        ):
            main(settings(tmp_path, server, "--model.failures.on_outage=pause"))
