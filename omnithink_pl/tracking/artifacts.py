"""The files of a run: texts, JSON, tables, figures, and the table of rollouts."""

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
from typing import TYPE_CHECKING, Any

from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.redaction import redact
from omnithink_pl.tracking.outbox import Entry, Outbox
from omnithink_pl.tracking.store import TrackingError, guard
from omnithink_pl.types import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

_LITTLE = 2**20  # bytes


class Artifacts:
    """Writes files into a run; a file that exists is replaced, so that writing twice is harmless.

    Args:
        client: MLflow's client.
        run_id: The run.
        uri: Of the tracking store.
        outbox: Keeps texts, tables and figures while the store is away; without one they are stored at once.
    """

    def __init__(self, client: MlflowClient, run_id: str, uri: str, outbox: Outbox | None = None) -> None:
        self._client = client
        self._run_id = run_id
        self._uri = uri
        self._outbox = outbox

    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""
        self._send({"kind": "text", "path": path, "text": redact(text)})

    def json(self, value: Any, path: str) -> None:
        """Store a JSON file."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False), path)

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

    def table(self, columns: Mapping[str, Sequence[Any]], path: str) -> None:
        """Store a table for MLflow's UI and ``mlflow.load_table``; unlike ``log_table``, replace one that exists.

        A stage repeated after a kill would otherwise be in it twice.
        """
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
        self._send({"kind": "table", "path": path})

    def deliver(self, entry: Entry) -> None:
        """Store what an entry of the outbox holds."""
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
            tags = self._client.get_run(self._run_id).data.tags
            tables = json.loads(tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
            entry = {"path": path, "type": "table"}
            if entry not in tables:
                self._client.set_tag(self._run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*tables, entry]))

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


def rollout_table(groups: Sequence[ScoredGroup], step: int) -> dict[str, list[Any]]:
    """Return one row per completion, as columns of equal length.

    Each reward component has its own column, such as ``reward/format``: the value where it has one, else its
    state and the reason, such as ``undefined: no answer segment``; ``None`` where the task has no such component.
    """
    components = dict.fromkeys(c.name for group in groups for score in group.scores for c in score.components)
    rows = [_row(group, index, step, list(components)) for group in groups for index in range(len(group.scores))]
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else ())}


def _row(group: ScoredGroup, index: int, step: int, components: list[str]) -> dict[str, Any]:
    example, completion, score = group.group.example, group.group.completions[index], group.scores[index]
    outcomes: dict[str, float | str | None] = {}
    for component in score.components:
        state, reason, value = component.outcome.state, component.outcome.reason, component.outcome.value
        outcomes[component.name] = value if state is State.VALUE else f"{state}: {reason}" if reason else str(state)
    return {
        "step": step,
        "task": example.task,
        "uid": example.uid,
        "prompt": "\n".join(message["content"] for message in example.messages),
        "completion": completion.text,
        "tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        **{f"reward/{name}": outcomes.get(name) for name in components},
        "total": str(score.state) if score.total is None else round(score.total, 6),
        **({"overlong_penalty": group.penalties[index]} if group.penalties else {}),
        "advantage": group.advantages[index],
    }
