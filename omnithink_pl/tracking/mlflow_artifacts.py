"""The artifacts of a run in MLflow."""

from __future__ import annotations

import errno
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, final

from omnithink_pl.redaction import redact
from omnithink_pl.tracking.artifacts import Artifacts, Columns, DataInput
from omnithink_pl.tracking.outbox import Entry, Outbox
from omnithink_pl.tracking.store import TrackingError, guard

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

_LITTLE = 2**20  # bytes
_TAG = 4000  # characters of the tag that lists a run's tables; MLflow refuses much more


@final
class MLflowArtifacts(Artifacts):
    """Writes into a run of MLflow.

    Args:
        client: MLflow's client.
        run_id: The run.
        uri: Of the tracking store.
        outbox: Keeps tags, texts, tables and figures while the store is away; without one they are stored at once.
    """

    def __init__(self, client: MlflowClient, run_id: str, uri: str, outbox: Outbox | None = None) -> None:
        self._client = client
        self._run_id = run_id
        self._uri = uri
        self._outbox = outbox

    @property
    def place(self) -> str:
        """The id of the run, and its store."""
        return f"{self._run_id} in {self._uri}"

    def describe(self, tags: Mapping[str, str], name: str | None = None, note: str | None = None) -> None:
        """Set tags, MLflow's own for name and description among them."""
        own = {"mlflow.runName": name, "mlflow.note.content": note}
        values = {key: redact(value) for key, value in {**tags, **own}.items() if value is not None}
        self._send({"kind": "tags", "values": values})

    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""
        self._send({"kind": "text", "path": path, "text": redact(text)})

    def figure(self, figure: Figure, path: str) -> None:
        """Store a figure as an image."""
        image = BytesIO()
        figure.savefig(image, format=Path(path).suffix[1:])
        self._send({"kind": "image", "path": path, "base64": b64encode(image.getvalue()).decode()})

    def file(self, file: Path, folder: str) -> None:
        """Store a local file in a folder of the run, whatever its size."""
        with self._guard(f"{folder}/{file.name}"):
            self._client.log_artifact(self._run_id, str(file), folder)

    def folder(self, directory: Path, path: str) -> None:
        """Store the files of a local directory in a folder of the run."""
        with self._guard(path):
            self._client.log_artifacts(self._run_id, str(directory), path)

    def table(self, columns: Columns, path: str) -> None:
        """Store a table for MLflow's UI and ``mlflow.load_table``; unlike ``log_table``, replace one that exists.

        A stage repeated after a kill would otherwise be in it twice. The tag by which the UI knows tables has room for
        some eighty: of more, the oldest are files like others.
        """
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
        self._send({"kind": "table", "path": path})

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

    def deliver(self, entry: Entry) -> None:
        """Store what an entry of the outbox holds."""
        if entry["kind"] == "tags":
            with guard(self._uri, "set tags"):
                for key, value in entry["values"].items():
                    self._client.set_tag(self._run_id, key, value)
            return
        path = entry["path"]
        if entry["kind"] == "table":
            self._list_table(path)
            return
        with self._guard(path):
            if entry["kind"] == "text":
                self._client.log_text(self._run_id, entry["text"], path)
                return
            with TemporaryDirectory() as scratch:
                image = Path(scratch) / Path(path).name
                image.write_bytes(b64decode(entry["base64"]))
                self._client.log_artifact(self._run_id, str(image), str(Path(path).parent))

    def _send(self, entry: Entry) -> None:
        if self._outbox is None:
            self.deliver(entry)
        else:
            self._outbox.add(entry)

    def _list_table(self, path: str) -> None:
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        with guard(self._uri, f"list the table {path}"):
            before = self._client.get_run(self._run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]")
            entry = {"path": path, "type": "table"}
            tables = [one for one in json.loads(before) if one != entry] + [entry]
            while len(json.dumps(tables)) > _TAG:
                del tables[0]
            if json.dumps(tables) != before:
                self._client.set_tag(self._run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(tables))

    @contextmanager
    def _guard(self, path: str) -> Iterator[None]:
        """Name the place of the files, which is another than that of the metrics, where a local disk refuses them."""
        with guard(self._uri, f"store the artifact {path}"):
            try:
                yield
            except OSError as error:
                location = self._client.get_run(self._run_id).info.artifact_uri
                if not str(location).startswith(("file:", "/")):
                    raise
                raise TrackingError(full_disk(path, str(location), error)) from error


def full_disk(path: str, location: str, error: OSError) -> str:
    """Return the message of an artifact that could not be written: MLflow writes into a temporary folder first."""
    scratch = Path(gettempdir())
    if error.errno == errno.ENOSPC and disk_usage(scratch).free < _LITTLE:
        return f"cannot store the artifact {path}: the disk of temporary files, {scratch}, is full; set TMPDIR"
    return (
        f"trainer.logger.init_args.artifact_location: cannot store the artifact {path} at {location}: {error}; free "
        f"space there or make it writable, then continue with --ckpt_path last"
    )
