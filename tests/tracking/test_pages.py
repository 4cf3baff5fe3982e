"""MLflow's pages of two real runs, as a browser shows them to whoever clicks through from the printed address."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from main import main
from tests.tracking.browser import CHROMIUM, Page, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the path"),
]
ROOT = Path(__file__).resolve().parents[2]
TASKS = ("mean", "code", "math", "qa", "writing")
SCORES = [f"after/{kind}/{task}" for kind in ("eval", "forgetting") for task in TASKS]
MATRIX = ["row", "code", "math", "qa", "writing", "mean"]
ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"  # a panel that opens once in each browser
CELLS = """() => [...document.querySelectorAll('[role=row], tr')]
  .map(row => [...row.querySelectorAll('[role=cell], [role=columnheader], th, td')].map(cell => cell.innerText.trim()))
  .filter(cells => cells.length)"""
HEADERS = """() => [...document.querySelectorAll('.ag-header-cell')].filter(cell => cell.innerText.trim())
  .sort((one, other) => one.getBoundingClientRect().x - other.getBoundingClientRect().x)
  .map(cell => cell.innerText.trim())"""


def fit(directory: Path, name: str, *order: str) -> None:
    stages = ", ".join(f"{{tasks: {{{task}: 1}}, steps: 2}}" for task in order)
    short = ["--data.batch_size=2", "--model.sampling.group_size=2", "--tracking.rollouts_every_n_steps=1"]
    short += ["--evaluation.evaluator.prompts=4", "--evaluation.evaluator.samples=1"]
    places = [f"--trainer.default_root_dir={directory}", f"--trainer.logger.tracking_uri={uri(directory)}"]
    main(["fit", f"--name={name}", f"--curriculum.stages=[{stages}]", *short, *places])


def uri(directory: Path) -> str:
    return f"sqlite:///{directory}/mlflow.db"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in one store."""
    directory = tmp_path_factory.mktemp("runs")
    fit(directory, "forwards", "math", "qa")
    fit(directory, "backwards", "qa", "math")
    return directory


@pytest.fixture(scope="module")
def printed(directory: Path) -> Iterator[str]:
    """The address of the table of runs, which the verb ``ui`` prints once it serves them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "main.py", "ui", f"--tracking_uri={uri(directory)}", f"--port={port}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            yield next(line for line in served.stdout if line.startswith("omnithink: ")).split()[1]
        finally:
            served.send_signal(signal.SIGTERM)
    assert served.returncode == 0


@pytest.fixture(scope="module")
def page(printed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A wide window, as MLflow leaves out of a page what a narrow one has no room for."""
    with open_page(tmp_path_factory.mktemp("profile"), width=2600, height=1200) as page:
        page.open(printed)
        page.click(ASSISTANT)
        yield page


def open_run(page: Page, printed: str) -> None:
    page.open(printed)
    page.click("a", "forwards-s0-")
    page.click("[role=tab]", "Artifacts")


def test_the_table_of_runs_opens_on_what_runs_are_compared_by(page: Page, printed: str) -> None:
    page.open(printed)
    page.text("forwards-s0-", "backwards-s0-", "2 matching runs", *SCORES)
    pairs = [f"after/{kind}/{task}" for task in TASKS for kind in ("eval", "forgetting")]
    first = ["Run Name", "Created", *pairs, "stages", "steps", "seed", "policy"]
    assert page.until(HEADERS)[: len(first)] == first


def test_its_charts_begin_with_a_bar_of_each_run(page: Page, printed: str) -> None:
    page.open(f"{printed}&compareRunsMode=CHART")
    assert page.until("() => document.querySelectorAll('.barlayer .bars').length >= 5")
    charts = [f"after/eval/{task}" for task in TASKS]
    shown = page.text(*charts, "after/forgetting").splitlines()
    assert [line for line in shown if line.startswith("after/eval/")] == charts
    assert shown.index("after/eval") < shown.index("after/forgetting")


def test_two_selected_runs_stand_side_by_side_with_what_they_forgot(page: Page, printed: str, directory: Path) -> None:
    runs = [run.data.metrics for run in MlflowClient(uri(directory)).search_runs(["1"])]  # the last one first
    page.open(printed)
    page.text("forwards-s0-", *SCORES)
    page.click("[aria-label='Select all runs']")
    page.click("button", "Compare")
    shown = page.text("Comparing 2 Runs from 1 Experiment", "after/forgetting/writing")
    assert re.search(r"stages\s+qa > math\s+math > qa", shown)
    lines = shown[shown.rindex("\nMetrics\n") :].splitlines()
    names = [line for line in lines if re.match(r"[a-z_]+/", line)]  # a column of names, then pairs of values
    values = [float(line) for line in lines if re.fullmatch(r"-?[\d.]+|NaN", line)]
    assert names[: len(SCORES)] == sorted(SCORES)
    pairs = dict(zip(sorted(SCORES), zip(values[::2], values[1::2], strict=True), strict=False))
    for task in TASKS:
        assert pairs[f"after/forgetting/{task}"] == pytest.approx(
            [run[f"after/forgetting/{task}"] for run in runs], abs=1e-3
        )


def test_the_score_matrix_is_a_table(page: Page, printed: str) -> None:
    open_run(page, printed)
    page.click("[role=treeitem], li", "tables")
    page.text("tables\nscore_matrix.json\nconfig.yaml")
    page.click("[role=treeitem], li", "score_matrix.json")
    page.text("View as table", "forgotten (base - last)")
    rows = page.until(CELLS)
    assert rows[0][: len(MATRIX)] == MATRIX
    assert [row[0] for row in rows[1:]] == ["base", "after math", "after qa", "forgotten (base - last)"]
    base, last, forgotten = ([float(cell) for cell in rows[at][1:6]] for at in (1, 3, 4))
    assert forgotten == pytest.approx([before - after for before, after in zip(base, last, strict=True)], abs=2e-4)


def test_rollouts_are_a_table_that_begins_with_completion_and_reward(page: Page, printed: str) -> None:
    open_run(page, printed)
    page.click("[role=treeitem], li", "rollouts")
    page.click("[role=treeitem], li", "step_00002_math.json")
    page.text("View as table", "advantage")
    header, *rows = page.until(CELLS)
    assert header[:4] == ["completion", "reward", "total", "advantage"]
    assert len(rows) == 4
    assert all("<think>" in row[0] for row in rows)
