"""Rows of a dataset: embedded, in a local file or directory, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.embedded.partition import split_of
from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split

Row = dict[str, Any]

EMBEDDED = "embedded"
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def load_rows(
    path: str,
    split: Split,
    columns: Sequence[str],
    embedded: Callable[[Split], list[Row]],
    uid: Callable[[Row], str],
) -> list[Row]:
    """The rows of a split.

    Data with a ``test`` split of its own keeps it. Other data is divided by a hash of each row's
    identity, the same in every run: a fifth is held out.

    Args:
        path: ``embedded``; a ``.jsonl``, ``.json`` or ``.parquet`` file; a directory with such files
            named after the splits (``train.jsonl``); or a hub id.
        split: ``train`` or ``test``.
        columns: What the rows must have.
        embedded: Makes the embedded rows of a split.
        uid: The identity of a row.

    Raises:
        BadInput: If ``path`` is not there, cannot be read, or lacks a column.
    """
    if path == EMBEDDED:
        return embedded(split)
    splits = _load(path)
    whole = split if "test" in splits else "train"
    missing = [column for column in columns if column not in splits[whole].column_names]
    if missing:
        raise BadInput(
            f"source path {path!r}: no column {', '.join(missing)} among {splits[whole].column_names}; "
            f"rename the columns, or name the source class that fits the data"
        )
    rows = [dict(row) for row in splits[whole]]
    return rows if "test" in splits else [row for row in rows if split_of(uid(row)) == split]


def _load(path: str) -> Any:
    """A mapping from split to rows. Imports datasets here, so that the embedded default starts fast."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    local = Path(path).expanduser()
    if not local.exists():
        if path.startswith((".", "/", "~")) or local.suffix in FORMATS:
            raise BadInput(f"source path {path!r} does not exist; give a file, a directory, a hub id or 'embedded'")
        return load_dataset(path)
    files = _files(local)
    for file in files.values():
        if not file.stat().st_size:
            raise BadInput(f"source path {str(file)!r} is empty; write rows to it, or name another file")
    try:
        return load_dataset(FORMATS[files["train"].suffix], data_files={k: str(v) for k, v in files.items()})
    except DatasetGenerationError as error:
        raise BadInput(f"source path {path!r} cannot be read: {error.__cause__ or error}; mend the file") from error


def _files(local: Path) -> dict[str, Path]:
    """The files of each split; a single file is ``train``."""
    found = {"train": local} if local.is_file() else {file.stem: file for file in sorted(local.iterdir())}
    files = {name: file for name, file in found.items() if name in ("train", "test") and file.suffix in FORMATS}
    if "train" not in files:
        raise BadInput(
            f"source path {str(local)!r} has no data in a known format; give a .jsonl or .parquet file, "
            f"or a directory with train.jsonl and, where there is one, test.jsonl"
        )
    return files


def unusable(source: str, index: int, uid: str, column: str, cure: str) -> BadInput:
    """The error for a row without a usable reference.

    Args:
        source: Name and path of the source.
        index: Of the row within its split.
        uid: Identity of the row.
        column: Where the reference should be.
        cure: What to do.
    """
    return BadInput(f"{source}: row {index} (uid {uid}): column {column!r} has no usable reference; {cure}")
