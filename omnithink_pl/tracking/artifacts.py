"""The files of a run: texts, JSON, tables, figures, and the table of rollouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.redaction import redact
from omnithink_pl.tracking.store import guard
from omnithink_pl.types import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient


class Artifacts:
    """Writes files into a run; a file that exists is replaced, so that writing twice is harmless."""

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self._client = client
        self._run_id = run_id
        self._uri = uri

    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""
        text = redact(text)
        with guard(self._uri, f"store the artifact {path}"):
            self._client.log_text(self._run_id, text, path)

    def json(self, value: Any, path: str) -> None:
        """Store a JSON file."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False), path)

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

    def table(self, columns: Mapping[str, Sequence[Any]], path: str) -> None:
        """Store a table for MLflow's UI and ``mlflow.load_table``; unlike ``log_table``, replace one that exists.

        A stage repeated after a kill would otherwise be in it twice.
        """
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
        with guard(self._uri, f"list the table {path}"):
            tags = self._client.get_run(self._run_id).data.tags
            tables = json.loads(tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
            entry = {"path": path, "type": "table"}
            if entry not in tables:
                self._client.set_tag(self._run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*tables, entry]))


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
