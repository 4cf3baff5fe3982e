"""Data sets of completions worth imitating: written batch by batch, read whole."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omnithink_pl.data.selection import COUNTED, Counts
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example

DATASET, COUNTS = "dataset", "counts.json"


class DemonstrationStore:
    """A folder with one file for each batch that was sampled, and, once all are there, the data set.

    Args:
        directory: The folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parts = directory / "parts"

    @property
    def dataset(self) -> Path:
        """Where the data set lies."""
        return self.directory / DATASET

    def begin(self, settings: Mapping[str, Any]) -> set[int]:
        """Open the folder, or go on in it.

        Args:
            settings: What the rows depend on; a folder that was begun with others is refused.

        Returns:
            The batches that are there already.

        Raises:
            BadInput: Names the settings that differ.
        """
        self.parts.mkdir(parents=True, exist_ok=True)
        path = self.directory / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if path.is_file():
            begun = json.loads(path.read_text())
            different = sorted(key for key in wanted.keys() | begun.keys() if wanted.get(key) != begun.get(key))
            if different:
                raise BadInput(
                    f"demonstrations.output: {self.directory} was begun with other settings "
                    f"({', '.join(different)}); choose another folder, or remove this one"
                )
        else:
            _write(path, wanted)
        return {int(part.stem) for part in self.parts.glob("*.json")}

    def add(self, number: int, rows: list[dict[str, Any]], counts: Counts) -> None:
        """Store what came of a batch; whole or not at all."""
        _write(self.parts / f"{number:06d}.json", {"rows": rows, "counts": counts})

    def finish(self) -> Counts:
        """Write the data set and its counts from all batches.

        Returns:
            Counts by task, of what ``Selection`` counts.

        Raises:
            BadInput: If no completion was kept.
        """
        from datasets import Dataset

        rows: list[dict[str, Any]] = []
        counts: Counts = {}
        for path in sorted(self.parts.glob("*.json")):
            part = json.loads(path.read_text())
            rows += part["rows"]
            for task, count in part["counts"].items():
                counts.setdefault(task, Counter()).update(count)
        if not rows:
            raise BadInput(
                f"demonstrations: not one completion of {sum(count['completions'] for count in counts.values())} was "
                f"kept; sample more (model.samples), or look at them with `main.py score`"
            )
        shutil.rmtree(self.dataset, ignore_errors=True)
        Dataset.from_list(rows).save_to_disk(self.dataset)
        plain = {task: {name: count[name] for name in COUNTED} for task, count in counts.items()}
        _write(self.directory / COUNTS, plain)
        return counts


def load_demonstrations(path: Path, tasks: Collection[str]) -> list[Example]:
    """Read a data set as examples whose reference is the completion to imitate.

    Args:
        path: What :class:`DemonstrationStore` wrote, its folder or the data set in it; or any data set on disk with
            the columns ``task``, ``messages`` and ``completion``.
        tasks: Tasks of which a stage trains; rows of others are left out.

    Raises:
        BadInput: If there is no such data set, it lacks a column, or a task has no row.
    """
    from datasets import Dataset, load_from_disk

    where = path / DATASET if (path / DATASET).is_dir() else path
    try:
        rows = load_from_disk(where)
    except FileNotFoundError as error:
        raise BadInput(
            f"data.demonstrations: {path} holds no data set; make one with `main.py predict --config "
            f"configs/sft_data.yaml`, or let that finish"
        ) from error
    if not isinstance(rows, Dataset) or not {"task", "messages", "completion"} <= set(rows.column_names):
        raise BadInput(f"data.demonstrations: {where} needs the columns task, messages and completion")
    examples = [
        Example(row["task"], f"{row.get('uid', '')}#{number}", "", row["completion"], tuple(row["messages"]))
        for number, row in enumerate(rows)
        if row["task"] in tasks
    ]
    missing = sorted(set(tasks) - {example.task for example in examples})
    if missing:
        raise BadInput(f"data.demonstrations: {where} has no row of {', '.join(missing)}; leave them out of the stages")
    return examples


def _write(path: Path, content: object) -> None:
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps(content, ensure_ascii=False))
    scratch.replace(path)
