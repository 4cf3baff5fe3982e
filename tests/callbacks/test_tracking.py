from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger
from mlflow.artifacts import load_text
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from callbacks.tracking import SaveResolvedConfig, Tracking
from omnithink_pl.tracking import TrackingLogger
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")


def config() -> SaveResolvedConfig:
    parser = LightningArgumentParser()
    parser.add_argument("--lr", type=float)
    return SaveResolvedConfig(parser, Namespace(lr=0.5))


class SaveAt(L.Callback):
    """Saves a checkpoint after one step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: CountingModule, *rest: Any) -> None:
        if pl_module.steps_done == self.step:
            trainer.save_checkpoint(self.path)


def tracked(
    uri: str,
    directory: Path,
    module: CountingModule | None = None,
    saver: Sequence[L.Callback] = (),
    ckpt_path: Path | None = None,
    experiment: str = "omnithink",
) -> None:
    """Run a tracked fit."""
    callbacks = [evaluation(), Tracking("curriculum"), config(), *saver, curriculum()]
    fit = trainer(directory, callbacks, TrackingLogger(experiment, tracking_uri=uri), enable_progress_bar=False)
    fit.fit(module or CountingModule(), CountedData(), ckpt_path=ckpt_path)


def only_run(uri: str, experiment: str = "omnithink") -> Run:
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def files(uri: str, run: Run, folder: str | None = None) -> set[str]:
    return {found.path for found in MlflowClient(uri).list_artifacts(run.info.run_id, folder)}


def history(uri: str, run: Run, name: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run]:
    directory = tmp_path_factory.mktemp("finished")
    uri = f"sqlite:///{directory}/mlflow.db"
    tracked(uri, directory)
    return uri, only_run(uri)


def test_a_fit_is_one_finished_run_tagged_with_what_it_was(finished: tuple[str, Run]) -> None:
    _, run = finished
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "curriculum-7"
    tags = {key: run.data.tags[key] for key in ("kind", "stages", "policy", "seed")}
    assert tags == {"kind": "curriculum", "stages": "code > math", "policy": "embedded", "seed": "7"}
    assert run.data.tags["git_commit"]


def test_metrics_stand_at_the_number_of_finished_steps(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert history(uri, run, "train/code/reward") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert history(uri, run, "train/math/reward") == [(4, 0.4), (5, 0.5)]
    assert [step for step, _ in history(uri, run, "eval/mean")] == [0, 3, 5]
    assert "epoch" not in run.data.metrics


def test_last_scores_stand_under_final(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert history(uri, run, "final/eval/code") == [(5, pytest.approx(0.4))]
    assert run.data.metrics["final/forgetting/mean"] == pytest.approx(-0.2)
    assert not [name for name in run.data.metrics if name.startswith("final/train")]


def test_the_artifacts_of_a_run_are_all_there(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run) == {
        "config.yaml",
        "environment.json",
        "figures",
        "prompt_scores",
        "rollouts",
        "score_matrix.json",
    }
    assert files(uri, run, "figures") == {
        "figures/forgetting.png",
        "figures/learning_curves.png",
        "figures/score_matrix.png",
    }
    assert load_text(f"{run.info.artifact_uri}/config.yaml") == "lr: 0.5\n"
    matrix = json.loads(load_text(f"{run.info.artifact_uri}/score_matrix.json"))
    assert matrix["labels"] == ["base", "1 code", "2 math"]


def test_every_row_has_the_score_of_each_prompt(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run, "prompt_scores") == {f"prompt_scores/{row}.json" for row in range(3)}
    last = json.loads(load_text(f"{run.info.artifact_uri}/prompt_scores/2.json"))
    assert last["math"] == {"uid": ["row-1"], "sampled": [pytest.approx(0.4)], "greedy": [pytest.approx(0.4)]}


def test_each_stage_has_a_table_of_its_last_rollouts(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run, "rollouts") == {"rollouts/1_code.json", "rollouts/2_math.json"}
    table = json.loads(load_text(f"{run.info.artifact_uri}/rollouts/1_code.json"))
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (row["step"], row["task"], row["prompt"], row["completion"]) == (3, "code", "What?", "an answer")
    assert (row["reward/primary"], row["reward/format"], row["total"], row["advantage"]) == (1.0, 1.0, 1.2, 1.0)


def test_a_resumed_fit_continues_the_same_run(tmp_path: Path, finished: tuple[str, Run]) -> None:
    """Stopped after step 4, continued from a checkpoint of step 3: step 4 is logged once."""
    uri, whole = finished
    stopped = CountingModule(fail_at=4, error=RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        tracked(uri, tmp_path, stopped, saver=[SaveAt(3, tmp_path / "three.ckpt")], experiment="resumed")
    assert only_run(uri, "resumed").info.status == "FAILED"
    tracked(uri, tmp_path, ckpt_path=tmp_path / "three.ckpt", experiment="resumed")
    run = only_run(uri, "resumed")
    assert run.info.status == "FINISHED"
    assert {name: history(uri, run, name) for name in run.data.metrics} == {
        name: history(uri, whole, name) for name in whole.data.metrics
    }
    assert {"config.yaml", "config_from_step_3.yaml", "environment_from_step_3.json"} <= files(uri, run)


def test_without_a_tracking_logger_it_keeps_out_of_the_way(tmp_path: Path) -> None:
    for logger in (False, CSVLogger(tmp_path)):
        tracking = Tracking()
        fit = trainer(tmp_path, [evaluation(), tracking, config(), curriculum()], logger, enable_progress_bar=False)
        fit.fit(CountingModule(), CountedData())
        assert tracking.state_dict() == {"run_id": None}
