"""Rows of a dataset: embedded, in a local file or directory, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.embedded.partition import split_of
from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split

Row = dict[str, Any]

EMBEDDED = "embedded"
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def load_rows(path: str, split: Split, embedded: Callable[[Split], list[Row]], uid: Callable[[Row], str]) -> list[Row]:
    """The rows of a split.

    Data with a ``test`` split of its own keeps it. Other data is divided by a hash of each row's
    identity, the same in every run: a fifth is held out.

    Args:
        path: ``embedded``; a ``.jsonl``, ``.json`` or ``.parquet`` file; a directory with such files
            named after the splits (``train.jsonl``); or a hub id.
        split: ``train`` or ``test``.
        embedded: Makes the embedded rows of a split.
        uid: The identity of a row.

    Raises:
        FileNotFoundError: If ``path`` looks like a local path and is not there, or a directory
            has no file of a known format.
    """
    if path == EMBEDDED:
        return embedded(split)
    splits = _load(path)
    if "test" in splits:
        return [dict(row) for row in splits[split]]
    return [dict(row) for row in splits["train"] if split_of(uid(row)) == split]


def _load(path: str) -> Any:
    """A mapping from split to rows. Imports datasets here, so that the embedded default starts fast."""
    from datasets import load_dataset

    local = Path(path).expanduser()
    if local.is_file():
        return load_dataset(_format(local), data_files={"train": str(local)})
    if local.is_dir():
        files = {file.stem: file for file in sorted(local.iterdir()) if file.suffix in FORMATS}
        if "train" not in files:
            raise FileNotFoundError(
                f"source path {path!r} has no train.jsonl or train.parquet; add one, and test.jsonl"
            )
        chosen = {name: str(file) for name, file in files.items() if name in ("train", "test")}
        return load_dataset(_format(files["train"]), data_files=chosen)
    if path.startswith((".", "/", "~")) or local.suffix in FORMATS:
        raise FileNotFoundError(
            f"source path {path!r} does not exist; give a file, a directory, a hub id or 'embedded'"
        )
    return load_dataset(path)


def _format(file: Path) -> str:
    if file.suffix not in FORMATS:
        raise FileNotFoundError(f"source path {str(file)!r} is none of {', '.join(FORMATS)}; convert it")
    return FORMATS[file.suffix]


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
