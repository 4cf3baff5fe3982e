from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from mlflow.artifacts import load_text
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from callbacks.tracking import SaveResolvedConfig, Tracking
from omnithink_pl.tracking import TrackingLogger
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer

CURVES = "figures/learning_curves.png"

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
    callbacks = [evaluation(), Tracking("curriculum", rollouts_every_n_steps=2), config(), *saver, curriculum()]
    fit = trainer(directory, callbacks, TrackingLogger(experiment, tracking_uri=uri), enable_progress_bar=False)
    fit.fit(module or CountingModule(), CountedData(), ckpt_path=ckpt_path)


def only_run(uri: str, experiment: str = "omnithink") -> Run:
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def files(uri: str, run: Run, folder: str | None = None) -> set[str]:
    return {found.path for found in MlflowClient(uri).list_artifacts(run.info.run_id, folder)}


def load_columns(run: Run, path: str) -> dict[str, list[Any]]:
    table = json.loads(load_text(f"{run.info.artifact_uri}/{path}"))
    return dict(zip(table["columns"], map(list, zip(*table["data"], strict=True)), strict=True))


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
    assert run.info.run_name == f"curriculum-s7-{run.info.run_id[:4]}"
    tags = {key: run.data.tags[key] for key in ("kind", "stages", "policy", "seed")}
    assert tags == {"kind": "curriculum", "stages": "code > math", "policy": "embedded", "seed": "7"}
    assert run.data.tags["git_commit"]


def test_metrics_stand_at_the_number_of_finished_steps(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert history(uri, run, "train/code/reward") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert history(uri, run, "train/math/reward") == [(4, 0.4), (5, 0.5)]
    assert [step for step, _ in history(uri, run, "eval/mean")] == [0, 3, 5]
    assert "epoch" not in run.data.metrics


def test_last_scores_stand_under_after_before_all_others(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert history(uri, run, "after/eval/code") == [(5, pytest.approx(0.4))]
    assert run.data.metrics["after/forgetting/mean"] == pytest.approx(-0.2)
    summary = {f"after/{kind}/{task}" for kind in ("eval", "forgetting") for task in ("code", "math", "mean")}
    assert set(sorted(run.data.metrics)[:6]) == summary
    assert {name.split("/")[0] for name in sorted(run.data.metrics)[-13:]} == {"uncertainty"}


def test_settings_are_parameters_and_data_are_inputs(finished: tuple[str, Run]) -> None:
    _, run = finished
    assert run.data.params == {"yaml/lr": "0.5"}
    inputs = [(one.dataset.name, one.tags[0].value) for one in run.inputs.dataset_inputs]
    assert sorted(inputs) == [(task, context) for task in ("code", "math") for context in ("evaluation", "training")]
    (rows,) = {one.dataset.profile for one in run.inputs.dataset_inputs if one.tags[0].value == "training"}
    assert json.loads(rows) == {"num_rows": 1}


def test_the_table_of_runs_opens_with_the_summary_of_all_tasks(finished: tuple[str, Run]) -> None:
    uri, run = finished
    view = json.loads(MlflowClient(uri).get_experiment(run.info.experiment_id).tags["mlflow.sharedViewState.summary"])
    columns = json.loads(view["state"])["selectedColumns"]
    assert columns[:2] == ["metrics.`after/eval/mean`", "metrics.`after/forgetting/mean`"]
    assert {f"metrics.`after/{kind}/{task}`" for kind in ("eval", "forgetting") for task in ("code", "math")} < {
        *columns
    }


def test_the_artifacts_of_a_run_are_all_there(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run) == {
        "config.yaml",
        "environment.json",
        "figures",
        "prompt_scores",
        "rollouts",
        "samples",
        "score_matrix.json",
        "tables",
    }
    assert files(uri, run, "figures") == {
        "figures/forgetting.png",
        "figures/learning_curves.png",
        "figures/score_matrix.png",
    }
    assert load_text(f"{run.info.artifact_uri}/config.yaml") == "lr: 0.5\n"
    matrix = json.loads(load_text(f"{run.info.artifact_uri}/score_matrix.json"))
    assert matrix["labels"] == ["base", "1 code", "2 math"]
    table = load_columns(run, "tables/score_matrix.json")
    assert table["row"] == ["base", "after code", "after math", "forgotten (base - last)"]
    assert table["math"] == [0.2, 0.32, 0.4, -0.2]


def test_every_row_has_the_score_of_each_prompt(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run, "prompt_scores") == {f"prompt_scores/{row}.json" for row in range(3)}
    last = json.loads(load_text(f"{run.info.artifact_uri}/prompt_scores/2.json"))
    assert last["math"] == {"uid": ["row-1"], "sampled": [pytest.approx(0.4)], "greedy": [pytest.approx(0.4)]}


def test_rollouts_come_every_so_many_steps_and_at_a_stages_end(finished: tuple[str, Run]) -> None:
    uri, run = finished
    steps = ("step_00002_code", "step_00003_code", "step_00004_math", "step_00005_math")
    assert files(uri, run, "rollouts") == {f"rollouts/{name}.json" for name in steps}
    table = load_columns(run, "rollouts/step_00003_code.json")
    assert list(table)[:2] == ["completion", "reward"]
    row = {name: values[0] for name, values in table.items()}
    assert (row["step"], row["task"], row["prompt"], row["completion"]) == (3, "code", "What?", "an answer")
    assert (row["reward"], row["reward/format"], row["total"], row["advantage"]) == (1.0, 1.0, 1.2, 1.0)


def test_every_evaluation_has_samples(finished: tuple[str, Run]) -> None:
    uri, run = finished
    assert files(uri, run, "samples") == {f"samples/{name}.json" for name in ("0_base", "1_code", "2_math")}
    table = load_columns(run, "samples/2_math.json")
    assert list(table)[:2] == ["completion", "reward"]
    assert table["task"] == ["code", "math"]


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
    curves = [MlflowClient(uri).download_artifacts(one.info.run_id, CURVES) for one in (run, whole)]
    assert Path(curves[0]).read_bytes() == Path(curves[1]).read_bytes()


def test_without_a_logger_it_only_notes_the_rewards(tmp_path: Path) -> None:
    tracking = Tracking()
    fit = trainer(tmp_path, [evaluation(), tracking, config(), curriculum()], False, enable_progress_bar=False)
    fit.fit(CountingModule(), CountedData())
    rewards = {"code": [(1, 0.1), (2, 0.2), (3, 0.3)], "math": [(4, 0.4), (5, 0.5)]}
    assert tracking.state_dict() == {"run_id": None, "rewards": rewards}
