"""From runs in MLflow to tables: every number found again by arithmetic on what was logged."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from mlflow.artifacts import load_text
from mlflow.tracking import MlflowClient

from omnithink_pl.errors import BadInput
from omnithink_pl.report.results import StudyReader
from omnithink_pl.report.verbs import PlanCurriculum, Report, build_report
from omnithink_pl.tracking import TrackingError
from tests.report.synthetic import FINALS, TASKS, write_study

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp("studied")
    (directory / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{directory}/mlflow.db"
    write_study(uri, directory, SEEDS, prompts=40, steps=2)
    return uri, directory


@pytest.fixture(scope="module")
def reported(studied: tuple[str, Path]) -> Path:
    uri, directory = studied
    Report("synthetic", str(directory / "report"), uri).run()
    return directory / "report"


def logged(uri: str, run: str, path: str) -> list[dict]:
    """An artifact of a run for each seed, by the tags that MLflow's own client finds."""
    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.`study.run` = '{run}'", order_by=["tags.`study.seed`"])
    return [json.loads(load_text(f"{one.info.artifact_uri}/{path}")) for one in found]


def read(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))


def test_everything_is_written_and_stored_in_the_parent_run(studied: tuple[str, Path], reported: Path) -> None:
    uri, _ = studied
    names = {path.name for path in reported.iterdir()}
    tables = {"table1.csv", "table2.csv", "differences.csv", "transfer.csv", "plan.csv", "predicted_actual.csv"}
    tables |= {"score_matrices.csv"}
    pictures = {"figure1.png", "figure3.png", "transfer_matrix.png", "orders.png", "errors.png", "learning_curves.png"}
    pictures |= {f"matrix_{name}.png" for name in FINALS if name != "ties"}
    assert names == tables | pictures | {"report.md", "report.html"}
    client = MlflowClient(uri)
    (parent,) = client.search_runs(["1"], "tags.`study.part` = 'parent'")
    assert {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "report")} == names
    for name in pictures:
        assert (reported / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_nothing_else(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 11
    assert "http" not in page
    assert "below 0 is forgotten" in page
    assert "opposite" in page


def test_table_2_holds_the_mean_over_the_seeds_and_each_seed(studied: tuple[str, Path], reported: Path) -> None:
    rows = {(row["score"], row["method"]): row for row in read(reported, "table2")}
    matrices = logged(studied[0], "single_math", "score_matrix.json")
    own = [matrix["rows"][-1]["math"]["sampled"] for matrix in matrices]
    row = rows["math", "single math"]
    assert float(row["mean"]) == pytest.approx(fmean(own), abs=1e-6)
    assert [float(row["seed_0"]), float(row["seed_1"])] == pytest.approx(own, abs=1e-6)
    assert float(rows["qa/greedy", "base"]["seed_1"]) == pytest.approx(matrices[1]["rows"][0]["qa"]["greedy"], abs=1e-6)
    # What `validate` answered greedily stands with the greedy scores, and with nothing else.
    assert ("math/greedy", "TIES merging") in rows
    assert ("math", "TIES merging") not in rows


def test_methods_are_compared_by_the_kind_that_all_have_prompt_by_prompt(
    studied: tuple[str, Path], reported: Path
) -> None:
    rows = {(row["method"], row["other"], row["task"]): row for row in read(reported, "differences")}

    def prompts(run: str, path: str) -> list[float]:
        return [
            fmean(pair) for pair in zip(*(one["qa"]["greedy"] for one in logged(studied[0], run, path)), strict=True)
        ]

    one, other = prompts("curriculum", "prompt_scores/4.json"), prompts("single_qa", "prompt_scores/1.json")
    row = rows["curriculum", "single qa", "qa"]
    assert float(row["difference"]) == pytest.approx(fmean(one) - fmean(other), abs=1e-6)
    assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
    assert len({key[:2] for key in rows}) == 7 * 6 / 2
    assert "greedy scores, the only ones that all of them have" in (reported / "report.md").read_text()


def test_transfer_is_after_minus_base_and_its_mean_leaves_out_the_task_itself(
    studied: tuple[str, Path], reported: Path
) -> None:
    rows = {(row["trained"], row["task"]): float(row["change"]) for row in read(reported, "transfer")}
    matrices = logged(studied[0], "single_qa", "score_matrix.json")
    change = {
        task: fmean(m["rows"][-1][task]["greedy"] - m["rows"][0][task]["greedy"] for m in matrices) for task in TASKS
    }
    assert {task: rows["qa", task] for task in TASKS} == pytest.approx(change, abs=1e-6)
    others = fmean(change[task] for task in TASKS if task != "qa")
    assert rows["qa", "mean of the others"] == pytest.approx(others, abs=1e-6)


def test_the_mean_matrix_and_what_was_forgotten_are_those_of_the_seeds(
    studied: tuple[str, Path], reported: Path
) -> None:
    rows = {(row["method"], row["row"], row["task"]): row for row in read(reported, "score_matrices")}
    matrices = [matrix["rows"] for matrix in logged(studied[0], "single_qa", "score_matrix.json")]
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


def test_a_plan_is_a_config_of_the_best_order(studied: tuple[str, Path], reported: Path) -> None:
    uri, directory = studied
    PlanCurriculum("synthetic", str(directory / "plan"), uri).run()
    config = yaml.safe_load((directory / "plan" / "curriculum.yaml").read_text())
    best = read(directory / "plan", "plan")[0]
    assert [stage["tasks"] for stage in config["curriculum"]["stages"]] == [{t: 1} for t in best["order"].split(" > ")]
    assert {stage["steps"] for stage in config["curriculum"]["stages"]} == {2}
    assert len(read(directory / "plan", "plan")) == 24
    assert float(best["mean"]) == max(float(row["mean"]) for row in read(directory / "plan", "plan"))


def test_runs_that_are_missing_are_named_and_left_out(studied: tuple[str, Path]) -> None:
    uri, _ = studied
    client = MlflowClient(uri)
    (gone,) = client.search_runs(["1"], "tags.`study.run` = 'single_qa' and tags.`study.seed` = '1'")
    client.set_terminated(gone.info.run_id, "FAILED")
    try:
        study = StudyReader(uri, "synthetic").read()
        assert study.missing == ("single_qa/1",)
        assert list(study.single["qa"].scores["qa"]) == [0]
        assert any("single_qa/1" in warning for warning in build_report(study, uri).warnings)
    finally:
        client.set_terminated(gone.info.run_id, "FINISHED")


def test_what_is_not_there_is_a_clear_error(studied: tuple[str, Path], tmp_path: Path) -> None:
    uri, _ = studied
    with pytest.raises(TrackingError, match=r"no study 'other' at .*; it has \['synthetic'\]"):
        StudyReader(uri, "other")
    with pytest.raises(BadInput, match=r"study: .*none\.yaml is no study's file"):
        Report(str(tmp_path / "none.yaml"))
