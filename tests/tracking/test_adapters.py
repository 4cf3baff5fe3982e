"""What loggers other than ours get. W&B and TensorBoard are no dependencies: stand-ins record the calls."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure

from main import main
from omnithink_pl.errors import BadInput
from omnithink_pl.tracking.adapters import LocalArtifacts, TensorBoardDisplay, WandbDisplay
from tests.callbacks.fit import CountedData, CountingModule, curriculum, evaluation, trainer
from tests.callbacks.test_tracking import Tracking, config

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*transfer_batch_to_device.*")

TABLE: dict[str, list[Any]] = {"completion": ["a|b\nc", "d"], "reward": [1.0, "failed: judge away"]}


def test_two_csv_loggers_both_get_metrics_config_tables_and_figures(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, name=name) for name in ("one", "two")]
    callbacks = [evaluation(), Tracking("curriculum", rollouts_every_n_steps=2), config(), curriculum()]
    trainer(tmp_path, callbacks, loggers, enable_progress_bar=False).fit(CountingModule(), CountedData())
    for logger in loggers:
        folder = Path(logger.log_dir)
        with (folder / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["train/code/reward"] for row in rows if row["train/code/reward"]] == ["0.1", "0.2", "0.3"]
        assert [row["step"] for row in rows if row["after/eval/mean"]] == ["5"]
        assert (folder / "config.yaml").read_text() == "lr: 0.5\n"
        assert "yaml/lr" in (folder / "hparams.yaml").read_text()
        assert {file.name for file in (folder / "figures").iterdir()} == {
            "forgetting.png",
            "learning_curves.png",
            "score_matrix.png",
        }
        matrix = json.loads((folder / "tables" / "score_matrix.json").read_text())
        assert [row["row"] for row in matrix] == ["base", "after code", "after math", "forgotten (base - last)"]
        assert json.loads((folder / "rollouts" / "step_00003_code.json").read_text())[0]["completion"] == "an answer"
        assert {row["context"] for row in json.loads((folder / "inputs.json").read_text())} == {
            "training",
            "evaluation",
        }
        tags = json.loads((folder / "tags.json").read_text())
        assert (tags["stages"], tags["steps"]) == ("code > math", "3 > 2")


def test_tensorboard_shows_texts_tables_and_figures(tmp_path: Path) -> None:
    writer, figure = MagicMock(), Figure()
    artifacts = LocalArtifacts(tmp_path, TensorBoardDisplay(writer, step=3))
    artifacts.table(TABLE, "rollouts/1.json")
    artifacts.text("a:\n  b: 1", "config.yaml")
    artifacts.figure(figure, "figures/matrix.png")
    artifacts.describe({"kind": "curriculum"}, note="# Scores")
    shown = {path: text for path, text, step in (call.args for call in writer.add_text.call_args_list) if step == 3}
    lines = ["| completion | reward |", "| --- | --- |", r"| a\|b<br>c | 1.0 |", "| d | failed: judge away |"]
    assert shown["rollouts/1"].splitlines() == lines
    assert shown["config"] == "    a:\n      b: 1"
    assert shown["README"] == "# Scores"
    writer.add_figure.assert_called_once_with("figures/matrix", figure, 3, close=False)
    assert (tmp_path / "figures" / "matrix.png").stat().st_size > 0


def test_wandb_shows_tables_figures_tags_and_keeps_a_chosen_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Table=MagicMock(), Image=MagicMock()))
    for chosen, name in (("mine", "mine"), (None, "curriculum-s0-0733")):
        run = MagicMock()
        run.name = chosen
        artifacts = LocalArtifacts(tmp_path, WandbDisplay(run))
        artifacts.describe({"kind": "curriculum"}, name="curriculum-s0-0733")
        artifacts.table(TABLE, "rollouts/1.json")
        artifacts.figure(Figure(), "figures/matrix.png")
        assert run.name == name
        run.config.update.assert_called_once_with({"kind": "curriculum"}, allow_val_change=True)
        assert [list(call.args[0]) for call in run.log.call_args_list] == [["rollouts/1"], ["figures/matrix"]]
    import wandb  # type: ignore[import-not-found]

    rows = [["a|b\nc", 1.0], ["d", "failed: judge away"]]
    wandb.Table.assert_called_with(["completion", "reward"], rows, allow_mixed_types=True)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_package_is_one_line_with_the_cure() -> None:
    with pytest.raises(BadInput) as error:
        main(["fit", "--trainer.logger=lightning.pytorch.loggers.WandbLogger"])
    assert str(error.value) == "trainer.logger: this logger needs the package wandb: pip install wandb"
