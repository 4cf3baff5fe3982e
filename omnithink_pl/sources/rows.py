"""Rows of a data set: embedded, in a local file or directory, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.files import find_files

Row = dict[str, Any]

EMBEDDED = "embedded"


def read_rows(
    source: str,
    path: str,
    split: str,
    columns: Sequence[str],
    revision: str | None = None,
    config: str | None = None,
) -> list[Row]:
    """The rows of one split, in the data set's order, with just the columns wanted.

    Args:
        source: Who reads them, for messages: the class, or a benchmark's name.
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file, which is all there is, whatever ``split`` says; a
            directory in the shape of a repository on the hub; or a hub id.
        split: Name of the split, as the data set has it.
        columns: What the rows must have.
        revision: Of a hub id: commit, tag or branch.
        config: Of several configurations, the one wanted.

    Raises:
        BadInput: If the data set, the revision, the split or a column does not exist, there is no network, or
            a file cannot be read. Names the source and the cure.
    """
    files = find_files(f"{source}({path})", path, revision, config)
    return [dict(row) for row in files.of_one_file(split).read(split, columns)]


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
