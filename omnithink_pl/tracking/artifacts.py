"""What a run keeps beside its metrics, whatever tracks it, and the table of rollouts."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.types import Example

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Columns = Mapping[str, Sequence[Any]]  # of a table: values by column, of equal length


@dataclass(frozen=True)
class DataInput:
    """A split of a task's data that a run uses."""

    name: str  # of the task
    context: str  # training or evaluation
    source: Mapping[str, Any]  # class and plain settings
    rows: int
    digest: str  # of the examples: another one, or another order, gives another digest

    @classmethod
    def of(cls, name: str, context: str, source: Mapping[str, Any], examples: Sequence[Example]) -> DataInput:
        """Describe examples of a task."""
        digest = hashlib.sha256()
        for example in examples:
            digest.update(json.dumps([example.uid, list(example.messages)]).encode())
        return cls(name, context, source, len(examples), digest.hexdigest()[:16])


def source_settings(source: object) -> dict[str, Any]:
    """Return the class of a source and its settings, such as path and revision, as far as they are plain."""
    found = {key: value for key, value in getattr(source, "__dict__", {}).items() if not key.startswith("_")}
    plain = {key: value for key, value in found.items() if isinstance(value, str | int | float | None)}
    return {"class": f"{type(source).__module__}.{type(source).__qualname__}", **plain}


class Artifacts(ABC):
    """Settings, texts, tables, figures and files of a run: one subclass for each kind of store.

    A file that exists is replaced, so that writing twice is harmless.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the run is to be found: ``<run id> in sqlite:///mlflow.db``, or a directory."""

    @abstractmethod
    def describe(self, tags: Mapping[str, str], name: str | None = None, note: str | None = None) -> None:
        """Set tags of the run, and, where given, its name and its description in Markdown."""

    @abstractmethod
    def text(self, text: str, path: str) -> None:
        """Store a text file, without the secrets that it may hold."""

    def json(self, value: Any, path: str) -> None:
        """Store a JSON file."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False), path)

    @abstractmethod
    def table(self, columns: Columns, path: str) -> None:
        """Store a table, whose path ends in ``.json``."""

    @abstractmethod
    def figure(self, figure: Figure, path: str) -> None:
        """Store a figure as an image."""

    @abstractmethod
    def file(self, file: Path, folder: str) -> None:
        """Store a local file in a folder of the run, whatever its size."""

    @abstractmethod
    def inputs(self, data: Sequence[DataInput]) -> None:
        """Store which data the run uses."""

    @abstractmethod
    def policy(self, directory: Path, scores: Mapping[str, float], step: int, upload: bool) -> None:
        """Store the trained policy as a model of this run: its place and scores, and on request its files."""


def input_columns(data: Iterable[DataInput]) -> Columns:
    """Return data inputs as a table."""
    rows = [{**asdict(one), "source": json.dumps(one.source)} for one in data]
    return {name: [row[name] for row in rows] for name in ("name", "context", "rows", "digest", "source")}


def rollout_table(groups: Sequence[ScoredGroup], step: int) -> dict[str, list[Any]]:
    """Return one row per completion, as columns of equal length: first what was said, and what it earned.

    Each reward component has its own column, such as ``reward/format``: the value where it has one, else its
    state and the reason, such as ``undefined: no answer segment``; ``None`` where the task has no such component.
    ``reward`` is the task's own, and ``total`` the weighted sum.
    """
    components = dict.fromkeys(c.name for group in groups for score in group.scores for c in score.components[1:])
    rows = [_row(group, index, step, list(components)) for group in groups for index in range(len(group.scores))]
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else ())}


def _row(group: ScoredGroup, index: int, step: int, components: list[str]) -> dict[str, Any]:
    example, completion, score = group.group.example, group.group.completions[index], group.scores[index]
    outcomes = {component.name: component.outcome.shown for component in score.components[1:]}
    advantage = group.advantages[index]  # none where the completion could not be scored
    return {
        "completion": completion.text,
        "reward": score.primary.shown,
        "total": str(score.state) if score.total is None else round(score.total, 6),
        "advantage": None if advantage is None else round(advantage, 4),
        "task": example.task,
        "prompt": "\n".join(message["content"] for message in example.messages),
        **{f"reward/{name}": outcomes.get(name) for name in components},
        **({"overlong_penalty": group.penalties[index]} if group.penalties else {}),
        "tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        "step": step,
        "uid": example.uid,
    }
