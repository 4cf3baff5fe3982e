"""The artifacts of a run in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from omnithink_pl.redaction import redact
from omnithink_pl.tracking.artifacts import Artifacts, Columns, DataInput
from omnithink_pl.tracking.store import guard

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

_TAG = 4000  # characters of the tag that lists a run's tables; MLflow refuses much more


@final
class MLflowArtifacts(Artifacts):
    """Writes into a run of MLflow."""

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self._client = client
        self._run_id = run_id
        self._uri = uri

    @property
    def place(self) -> str:
        """The id of the run, and its store."""
        return f"{self._run_id} in {self._uri}"

    def describe(self, tags: Mapping[str, str], name: str | None = None, note: str | None = None) -> None:
        """Set tags, MLflow's own for name and description among them."""
        own = {"mlflow.runName": name, "mlflow.note.content": note}
        with guard(self._uri, "set tags"):
            for key, value in {**tags, **own}.items():
                if value is not None:
                    self._client.set_tag(self._run_id, key, redact(value))

    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""
        with guard(self._uri, f"store the artifact {path}"):
            self._client.log_text(self._run_id, redact(text), path)

    def figure(self, figure: Figure, path: str) -> None:
        """Store a figure as an image."""
        with guard(self._uri, f"store the artifact {path}"):
            self._client.log_figure(self._run_id, figure, path)

    def file(self, file: Path, folder: str) -> None:
        """Store a local file in a folder of the run, whatever its size."""
        with guard(self._uri, f"store the artifact {folder}/{file.name}"):
            self._client.log_artifact(self._run_id, str(file), folder)

    def folder(self, directory: Path, path: str) -> None:
        """Store the files of a local directory in a folder of the run."""
        with guard(self._uri, f"store the artifacts {path}"):
            self._client.log_artifacts(self._run_id, str(directory), path)

    def table(self, columns: Columns, path: str) -> None:
        """Store a table for MLflow's UI and ``mlflow.load_table``; unlike ``log_table``, replace one that exists.

        A stage repeated after a kill would otherwise be in it twice. The tag by which the UI knows tables has room for
        some eighty: of more, the oldest are files like others.
        """
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
        with guard(self._uri, f"list the table {path}"):
            tags = self._client.get_run(self._run_id).data.tags
            before = tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]")
            entry = {"path": path, "type": "table"}
            tables = [one for one in json.loads(before) if one != entry] + [entry]
            while len(json.dumps(tables)) > _TAG:
                del tables[0]
            if json.dumps(tables) != before:
                self._client.set_tag(self._run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(tables))

    def inputs(self, data: Sequence[DataInput]) -> None:
        """Store dataset inputs; MLflow has each of them once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        found = [
            DatasetInput(
                Dataset(
                    name=one.name,
                    digest=one.digest,
                    source_type="code",
                    source=json.dumps(one.source),
                    profile=json.dumps({"num_rows": one.rows}),
                ),
                [InputTag(MLFLOW_DATASET_CONTEXT, one.context)],
            )
            for one in data
        ]
        with guard(self._uri, "store the data inputs"):
            self._client.log_inputs(self._run_id, found)

    def policy(self, directory: Path, scores: Mapping[str, float], step: int, upload: bool) -> None:
        """Store a logged model, unless the run has one: it may have been resumed after its end."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        with guard(self._uri, "store the policy"):
            run = self._client.get_run(self._run_id)
            if run.outputs is not None and run.outputs.model_outputs:
                return
            model = self._client.create_logged_model(
                run.info.experiment_id,
                name=f"policy-{run.info.run_name}".translate(str.maketrans("/:.%\"'", "------")),
                source_run_id=self._run_id,
                tags={"folder": str(directory.resolve())},
                params={name: f"{value:.4f}" for name, value in scores.items()},
                model_type="policy",
            )
            if upload:
                self._client.log_model_artifacts(model.model_id, str(directory))
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, step)])
