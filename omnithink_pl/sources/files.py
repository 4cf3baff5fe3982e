"""The files of a data set, by split: local or downloaded, one shape for both."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.hub import FORMATS, download

_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class DataFiles:
    """Where the rows of each split are.

    Args:
        source: Who reads them, for messages, such as ``OpenR1Math(rows.jsonl)``.
        splits: Files of each split, in order.
        version: Changes when the files do: the hub's commit, or a hash of local names, sizes and times.
        single: One file was given by itself, so that nothing says which split it is.
    """

    source: str
    splits: Mapping[str, tuple[Path, ...]]
    version: str
    single: bool = False

    def read(self, split: str, columns: Sequence[str]) -> Any:
        """The rows of a split as a ``datasets.Dataset`` with just these columns.

        Other columns are not even read from parquet files; they may be a hundred times as large.

        Args:
            split: One of ``splits``.
            columns: What the rows must have.

        Raises:
            BadInput: If there is no such split, a column is missing, or a file is empty or torn.
        """
        files = self._files(split)
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError

        kind = FORMATS[files[0].suffix]
        options: dict[str, Any] = {}
        if kind == "parquet":
            self._check(_parquet_columns(self.source, files[0]), columns, files[0])
            options["columns"] = list(columns)
        names = {split: [str(file) for file in files]}
        try:
            rows = load_dataset(kind, data_files=names, split=split, **options)
        except DatasetGenerationError as error:
            raise BadInput(f"{self.source}: {_named(files)} cannot be read: {error.__cause__ or error}") from error
        self._check(rows.column_names, columns, files[0])
        return rows.select_columns(list(columns))

    def of_one_file(self, split: str) -> DataFiles:
        """The same, where a file that was given by itself counts as the split that is asked for."""
        return replace(self, splits={split: self.splits["train"]}) if self.single else self

    def _files(self, split: str) -> tuple[Path, ...]:
        if split not in self.splits:
            raise BadInput(f"{self.source}: no split {split!r}; there is {', '.join(self.splits)}")
        for file in self.splits[split]:
            if not file.stat().st_size:
                raise BadInput(f"{self.source}: {str(file)!r} is empty; write rows to it, or name another file")
        return self.splits[split]

    def _check(self, found: Sequence[str], wanted: Sequence[str], file: Path) -> None:
        missing = [column for column in wanted if column not in found]
        if missing:
            raise BadInput(
                f"{self.source}: {file} has no column {', '.join(missing)} among {sorted(found)}; "
                f"rename the columns, or name the source class that fits the data"
            )


def find_files(source: str, path: str, revision: str | None = None, config: str | None = None) -> DataFiles:
    """Find the files of a data set, downloading them if need be.

    Args:
        source: Who asks, for messages.
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file; a directory in the shape of a repository on the hub
            (``data/train-00000-of-00001.parquet`` with or without a card, or just ``train.jsonl``); or a hub id.
        revision: Of a hub id: commit, tag or branch. A commit makes sure that the rows never change.
        config: Of several configurations, the one wanted.

    Raises:
        BadInput: If there is nothing at ``path``, or nothing in a known format.
    """
    local = Path(path).expanduser()
    if local.is_file() and local.suffix in FORMATS:
        return DataFiles(source, {"train": (local,)}, str(local_version(path)), single=True)
    if local.exists():
        return DataFiles(source, _splits(source, local, config), str(local_version(path)))
    if path.startswith((".", "/", "~")) or local.suffix in FORMATS or not _REPOSITORY.fullmatch(path):
        raise BadInput(f"{source}: path {path!r} does not exist; give a file, a directory, a hub id or 'embedded'")
    downloaded = download(source, path, revision, config)
    return DataFiles(source, _splits(source, downloaded, config), downloaded.name)


def _splits(source: str, directory: Path, config: str | None) -> dict[str, tuple[Path, ...]]:
    """Files by split, found by the hub's own rules: what the card says, or else the files' names."""
    from datasets import load_dataset_builder
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError

    advice = "give a .jsonl or .parquet file, or a directory with such files named after their splits"
    try:
        # An absolute path: a relative one with a slash could be taken for a hub id.
        found = load_dataset_builder(str(directory.resolve()), config).config.data_files or {}
    except (EmptyDatasetError, DatasetNotFoundError, FileNotFoundError) as error:
        raise BadInput(f"{source}: {directory} has no data in a known format; {advice}") from error
    except ValueError as error:
        raise BadInput(f"{source}: {directory}: {error}; set `config` to one of its configurations") from error
    splits = {str(name): tuple(Path(file) for file in files) for name, files in found.items()}
    if not splits or any(file.suffix not in FORMATS for files in splits.values() for file in files):
        raise BadInput(f"{source}: {directory} has no data in a known format; {advice}")
    return splits


def _parquet_columns(source: str, file: Path) -> list[str]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_schema

    try:
        return list(read_schema(file).names)
    except ArrowInvalid as error:
        raise BadInput(f"{source}: {file} cannot be read: {error}; download or copy it again") from error


def local_version(path: str) -> str | None:
    """A mark of a local file or directory that changes when its data does; ``None`` if there is none at ``path``.

    It is made from names, sizes and times: reading gigabytes to compare them would take longer than reading rows.
    """
    local = Path(path).expanduser()
    if not local.exists():
        return None
    files = [local] if local.is_file() else sorted(f for f in local.rglob("*") if f.suffix in (*FORMATS, ".md"))
    marks = [f"{file.relative_to(local)}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} or one of {len(files) - 1} more files"
