"""Artifacts for every logger of Lightning: MLflow, W&B, TensorBoard, CSV and others that have a directory.

MLflow has a place for each kind of artifact. For the others, artifacts are files in the logger's directory, and are
shown in its own interface as far as it has the means: an adapter for each says how.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import lightning as L
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from omnithink_pl.redaction import redact
from omnithink_pl.tracking.artifacts import Artifacts, Columns, DataInput, input_columns
from omnithink_pl.tracking.mlflow_artifacts import MLflowArtifacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_artifacts(trainer: L.Trainer) -> dict[Logger, Artifacts]:
    """Return the artifacts of each of a trainer's loggers; none in processes but the first, which alone writes."""
    loggers = [logger for logger in trainer.loggers if not isinstance(logger, DummyLogger)]  # of fast_dev_run
    step = getattr(trainer.lightning_module, "steps_done", 0)  # some verbs have no module
    return {logger: artifacts_of(logger, step) for logger in loggers} if trainer.is_global_zero else {}


def artifacts_of(logger: Logger, step: int = 0) -> Artifacts:
    """Return the artifacts of a logger, whose run is opened, after so many steps of training."""
    if isinstance(logger, MLFlowLogger):
        return MLflowArtifacts(logger.experiment, str(logger.run_id), str(logger._tracking_uri))
    if isinstance(logger, WandbLogger):  # its directory is synchronised; config.yaml in it is W&B's own
        return LocalArtifacts(Path(logger.experiment.dir) / "run", WandbDisplay(logger.experiment))
    directory = Path(logger.log_dir or Path(logger.save_dir or ".") / str(logger.name) / str(logger.version))
    if isinstance(logger, TensorBoardLogger):
        return LocalArtifacts(directory, TensorBoardDisplay(logger.experiment, step))
    return LocalArtifacts(directory, NoDisplay())


class Display(Protocol):
    """How a tracker shows what is also stored as files; paths are without their endings."""

    def describe(self, tags: Mapping[str, str], name: str | None, note: str | None) -> None:
        """Show tags, and where given name and description."""

    def text(self, text: str, path: str) -> None:
        """Show a text."""

    def table(self, columns: Columns, path: str) -> None:
        """Show a table."""

    def figure(self, figure: Figure, path: str) -> None:
        """Show a figure."""


@final
class LocalArtifacts(Artifacts):
    """Writes files into a directory, and hands them to a display."""

    def __init__(self, directory: Path, display: Display) -> None:
        self.directory = directory
        self._display = display

    @property
    def place(self) -> str:
        """The directory."""
        return str(self.directory)

    def describe(self, tags: Mapping[str, str], name: str | None = None, note: str | None = None) -> None:
        """Add tags and name to ``tags.json``; the description becomes ``README.md``."""
        tags = {key: redact(value) for key, value in tags.items()}
        path = self._place("tags.json")
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**before, **tags, **({"name": name} if name else {})}, indent=2))
        if note is not None:
            self._place("README.md").write_text(note)
        self._display.describe(tags, name, note)

    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""
        text = redact(text)
        self._place(path).write_text(text, encoding="utf-8")
        self._display.text(text, _stem(path))

    def table(self, columns: Columns, path: str) -> None:
        """Store a table as JSON, a list of rows."""
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self._place(path).write_text(redact(json.dumps(rows, indent=1, ensure_ascii=False)), encoding="utf-8")
        self._display.table(columns, _stem(path))

    def figure(self, figure: Figure, path: str) -> None:
        """Store a figure as an image."""
        figure.savefig(self._place(path))
        self._display.figure(figure, _stem(path))

    def file(self, file: Path, folder: str) -> None:
        """Copy a local file into a folder of the run."""
        shutil.copy(file, self._place(f"{folder}/{file.name}"))

    def inputs(self, data: Sequence[DataInput]) -> None:
        """Store a table of the data."""
        self.table(input_columns(data), "inputs.json")

    def policy(self, directory: Path, scores: Mapping[str, float], step: int, upload: bool) -> None:
        """Store the policy's place and scores; its files stay there."""
        self.json({"folder": str(directory.resolve()), "step": step, "scores": dict(scores)}, "policy.json")

    def _place(self, path: str) -> Path:
        place = self.directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@final
class NoDisplay:
    """Of CSV files, and of loggers that are not known here."""

    def describe(self, tags: Mapping[str, str], name: str | None, note: str | None) -> None:
        """Nothing to show it."""

    def text(self, text: str, path: str) -> None:
        """Nothing to show it."""

    def table(self, columns: Columns, path: str) -> None:
        """Nothing to show it."""

    def figure(self, figure: Figure, path: str) -> None:
        """Nothing to show it."""


@final
class TensorBoardDisplay:
    """Texts, with tables among them, and images of TensorBoard.

    Args:
        writer: TensorBoard's.
        step: Place of what is shown: the score matrix is stored after each stage, and TensorBoard shows all of them.
    """

    def __init__(self, writer: Any, step: int = 0) -> None:
        self._writer = writer
        self._step = step

    def describe(self, tags: Mapping[str, str], name: str | None, note: str | None) -> None:
        """Show a table of tags, and the description."""
        self.table({"tag": list(tags), "value": list(tags.values())}, "tags")
        if note is not None:
            self._writer.add_text("README", note, self._step)

    def text(self, text: str, path: str) -> None:
        """Show a text as it is; Markdown would eat its indents."""
        self._writer.add_text(path, "\n".join(f"    {line}" for line in text.splitlines()), self._step)

    def table(self, columns: Columns, path: str) -> None:
        """Show a table in Markdown."""
        rows = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
        self._writer.add_text(path, "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows), self._step)

    def figure(self, figure: Figure, path: str) -> None:
        """Show a figure, which others may need afterwards."""
        self._writer.add_figure(path, figure, self._step, close=False)


@final
class WandbDisplay:
    """Config, tables and images of Weights & Biases."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def describe(self, tags: Mapping[str, str], name: str | None, note: str | None) -> None:
        """Show tags as config: W&B's own have no values."""
        self._run.config.update(dict(tags), allow_val_change=True)
        if name is not None and not self._run.name:  # one that the user chose stays
            self._run.name = name
        if note is not None:
            self._run.notes = note

    def text(self, text: str, path: str) -> None:
        """A file of the run's directory is among its files."""

    def table(self, columns: Columns, path: str) -> None:
        """Show a table; a column may hold numbers and reasons why there is none."""
        import wandb

        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self._run.log({path: wandb.Table(list(columns), rows, allow_mixed_types=True)})

    def figure(self, figure: Figure, path: str) -> None:
        """Show a figure."""
        import wandb

        self._run.log({path: wandb.Image(figure)})


def _stem(path: str) -> str:
    return path.rpartition(".")[0] or path


def _cell(value: object) -> str:
    """A value in a Markdown table: in one line, without the sign that separates columns."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")
