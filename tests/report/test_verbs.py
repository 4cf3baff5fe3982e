"""From runs in MLflow to tables: every number found again by arithmetic on what was logged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from mlflow.artifacts import load_text
from mlflow.tracking import MlflowClient

from omnithink_pl.errors import BadInput
from omnithink_pl.report.results import StudyReader
from omnithink_pl.report.verbs import PlanCurriculum, Report, find_warnings
from omnithink_pl.tracking import TrackingError
from tests.report.synthetic import FINALS, TASKS, write_study

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    directory = tmp_path_factory.mktemp("studied")
    (directory / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{directory}/mlflow.db"
    write_study(uri, directory, SEEDS, prompts=40, steps=2)
    return uri


@pytest.fixture(scope="module")
def reported(uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    Report("synthetic", str(folder), uri).run()
    return folder


def logged(uri: str, run: str, path: str) -> list[dict]:
    """An artifact of a run for each seed, by the tags that MLflow's own client finds."""
    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.`study.run` = '{run}'", order_by=["tags.`study.seed`"])
    return [json.loads(load_text(f"{one.info.artifact_uri}/{path}")) for one in found]


def read(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))


def test_everything_is_written_and_stored_in_the_parent_run(uri: str, reported: Path) -> None:
    names = {path.name for path in reported.iterdir()}
    tables = ["table1", "table2", "differences", "relative_gains", "transfer", "forgettability", "plan"]
    tables += ["predicted_actual", "score_matrices"]
    pictures = ["figure1", "figure3", "transfer_matrix", "orders", "errors", "learning_curves"]
    pictures += [f"matrix_{name}" for name in FINALS if name != "ties"]
    files = {*(f"{name}.csv" for name in tables), *(f"{name}.png" for name in pictures), "report.md", "report.html"}
    assert names == files
    client = MlflowClient(uri)
    (parent,) = client.search_runs(["1"], "tags.`study.part` = 'parent'")
    assert {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "report")} == names
    assert all((reported / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in pictures)
    # The page needs nothing else.
    page = (reported / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "http" not in page
    assert page.count("<td>") > page.count('<span class="ends">(') > 100
    assert "below 0 is forgotten" in page
    assert "opposite" in page


def test_table_2_holds_the_mean_over_the_seeds_and_each_seed(uri: str, reported: Path) -> None:
    rows = {(row["score"], row["method"]): row for row in read(reported, "table2")}
    matrices = logged(uri, "single_math", "score_matrix.json")
    own = [matrix["rows"][-1]["math"]["sampled"] for matrix in matrices]
    row = rows["math", "single math"]
    assert float(row["mean"]) == pytest.approx(fmean(own), abs=1e-6)
    assert [float(row["seed_0"]), float(row["seed_1"])] == pytest.approx(own, abs=1e-6)
    assert float(rows["qa/greedy", "base"]["seed_1"]) == pytest.approx(matrices[1]["rows"][0]["qa"]["greedy"], abs=1e-6)
    # What `validate` answered greedily stands with the greedy scores, and with nothing else.
    assert ("math/greedy", "TIES merging") in rows
    assert ("math", "TIES merging") not in rows


def test_methods_are_compared_by_the_kind_that_all_have_prompt_by_prompt(uri: str, reported: Path) -> None:
    rows = {(row["method"], row["other"], row["task"]): row for row in read(reported, "differences")}

    def prompts(run: str, path: str) -> list[float]:
        by_seed = [one["qa"]["greedy"] for one in logged(uri, run, path)]
        return [fmean(pair) for pair in zip(*by_seed, strict=True)]

    one, other = prompts("curriculum", "prompt_scores/4.json"), prompts("single_qa", "prompt_scores/1.json")
    row = rows["curriculum", "single qa", "qa"]
    assert float(row["difference"]) == pytest.approx(fmean(one) - fmean(other), abs=1e-6)
    assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
    assert len({key[:2] for key in rows}) == 7 * 6 / 2
    assert "greedy scores, the only ones that all of them have" in (reported / "report.md").read_text()


def test_transfer_is_after_minus_base_and_its_mean_leaves_out_the_task_itself(uri: str, reported: Path) -> None:
    rows = {(row["trained"], row["task"]): float(row["change"]) for row in read(reported, "transfer")}
    matrices = logged(uri, "single_qa", "score_matrix.json")
    change = {
        task: fmean(m["rows"][-1][task]["greedy"] - m["rows"][0][task]["greedy"] for m in matrices) for task in TASKS
    }
    assert {task: rows["qa", task] for task in TASKS} == pytest.approx(change, abs=1e-6)
    others = fmean(change[task] for task in TASKS if task != "qa")
    assert rows["qa", "mean of the others"] == pytest.approx(others, abs=1e-6)


def test_what_the_others_do_to_a_task_is_its_mean_change_over_the_runs_that_did_not_train_it(reported: Path) -> None:
    rows = {(row["trained"], row["task"]): float(row["change"]) for row in read(reported, "transfer")}
    victims = {task: fmean(rows[other, task] for other in TASKS if other != task) for task in TASKS}
    assert {task: rows["mean of the other runs", task] for task in TASKS} == pytest.approx(victims, abs=2e-6)
    table = {row["task"]: row for row in read(reported, "forgettability")}
    assert list(table) == sorted(TASKS, key=lambda task: -victims[task])
    for task, row in table.items():
        assert float(row["others_do_to"]) == pytest.approx(victims[task], abs=2e-6)
        assert float(row["does_to_others"]) == pytest.approx(rows[task, "mean of the others"], abs=1e-6)
        assert float(row["others_do_to_low"]) < float(row["others_do_to"]) < float(row["others_do_to_high"])
    text = (reported / "report.md").read_text()
    assert "gives as code −1.10, math −1.78, qa −3.71, writing +0.11" in text
    assert "code +0.53, math −0.48, qa −1.96, writing −4.57" in text


def test_relative_gains_are_ratios_of_the_scores_and_have_intervals(reported: Path) -> None:
    scores = {(row["score"], row["method"]): float(row["mean"]) for row in read(reported, "table2")}
    rows = {(row["other"], row["task"]): row for row in read(reported, "relative_gains")}
    expected = {
        task: scores[f"{task}/greedy", "curriculum"] / scores[f"{task}/greedy", "single qa"] - 1 for task in TASKS
    }
    for task in TASKS:
        assert float(rows["single qa", task]["gain"]) == pytest.approx(expected[task], abs=1e-5)
    mean = rows["single qa", "mean"]
    assert float(mean["gain"]) == pytest.approx(fmean(expected.values()), abs=1e-5)
    assert float(mean["gain_low"]) < float(mean["gain"]) < float(mean["gain_high"])


def test_the_mean_matrix_and_what_was_forgotten_are_those_of_the_seeds(uri: str, reported: Path) -> None:
    rows = {(row["method"], row["row"], row["task"]): row for row in read(reported, "score_matrices")}
    matrices = [matrix["rows"] for matrix in logged(uri, "single_qa", "score_matrix.json")]
    own = [[row["math"]["sampled"] for row in matrix] for matrix in matrices]
    row = rows["single qa", "after qa", "math"]
    assert (float(row["value"]), row["seeds"]) == (pytest.approx(fmean(after for _, after in own), abs=1e-6), "2")
    lost = [before - after for before, after in own]
    found = rows["single qa", "forgotten", "math"]
    assert float(found["value"]) == pytest.approx(fmean(lost), abs=1e-6)
    # Student's interval of two paired seeds: half their distance times the quantile 12.706.
    reach = 12.7062 * abs(lost[0] - lost[1]) / 2
    assert float(found["value_high"]) == pytest.approx(min(1.0, fmean(lost) + reach), abs=1e-4)
    assert ("TIES merging", "base", "math") not in rows
    assert "the paper's sign: above 0 is forgotten" in (reported / "report.md").read_text()


def test_a_prediction_stands_beside_what_came_true(reported: Path) -> None:
    change = {(row["trained"], row["task"]): float(row["change"]) for row in read(reported, "transfer")}
    scores = {(row["score"], row["method"]): float(row["mean"]) for row in read(reported, "table2")}
    rows = {(row["method"], row["task"]): row for row in read(reported, "predicted_actual")}
    assert {method for method, _ in rows} == {"curriculum"}
    # code → math → qa → writing: what QA and writing do to math after its own stage.
    expected = scores["math/greedy", "single math"] + change["qa", "math"] + change["writing", "math"]
    assert float(rows["curriculum", "math"]["predicted"]) == pytest.approx(expected, abs=1e-5)
    assert float(rows["curriculum", "math"]["actual"]) == pytest.approx(scores["math/greedy", "curriculum"])


def test_a_plan_is_a_config_of_the_best_order(uri: str, tmp_path: Path) -> None:
    PlanCurriculum("synthetic", str(tmp_path), uri).run()
    orders = read(tmp_path, "plan")
    stages = yaml.safe_load((tmp_path / "curriculum.yaml").read_text())["curriculum"]["stages"]
    assert stages == [{"tasks": {task: 1}, "steps": 2} for task in orders[0]["order"].split(" > ")]
    assert len(orders) == 24
    by_rule = yaml.safe_load((tmp_path / "least_forgettable.yaml").read_text())["curriculum"]["stages"]
    ranked = [row["task"] for row in read(tmp_path, "forgettability")]
    assert [list(stage["tasks"]) for stage in by_rule] == [[task] for task in ranked]
    assert [row["order"] for row in orders if "paper's rule" in row["chosen_by"]] == [" > ".join(ranked)]
    assert "saturation model" in orders[0]["chosen_by"]
    assert float(orders[0]["mean"]) == max(float(row["mean"]) for row in orders)


def test_runs_that_are_missing_are_named_and_left_out(uri: str) -> None:
    client = MlflowClient(uri)
    (gone,) = client.search_runs(["1"], "tags.`study.run` = 'single_qa' and tags.`study.seed` = '1'")
    client.set_terminated(gone.info.run_id, "FAILED")
    try:
        study = StudyReader(uri, "synthetic").read()
        assert study.missing == ("single_qa/1",)
        assert list(study.single["qa"].scores["qa"]) == [0]
        assert any("single_qa/1" in warning for warning in find_warnings(study))
    finally:
        client.set_terminated(gone.info.run_id, "FINISHED")


def test_what_is_not_there_is_a_clear_error(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"no study 'other' at .*; it has \['synthetic'\]"):
        StudyReader(uri, "other")
    with pytest.raises(BadInput, match=r"study: .*none\.yaml is no study's file"):
        Report(str(tmp_path / "none.yaml"))
