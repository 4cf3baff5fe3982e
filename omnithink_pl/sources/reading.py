"""Rows of one file in any of the known formats; whatever cannot be read is named by file and line.

``datasets`` is not used for this: it gives all cells of a column one type, fails on a file where that cannot be done
without saying where, and takes texts that look like a date for one.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.base import Row

_BOM = b"\xef\xbb\xbf"


class Place(NamedTuple):
    """Where a row stands."""

    file: Path
    unit: str  # line of a text file, from 1; or row, from 0
    number: int

    def __str__(self) -> str:
        return f"{self.file.name}, {self.unit} {self.number}"


Found = tuple[Place, Row]


def read_file(file: Path, columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Read the rows of a file, with just the columns asked for; a cell that a row lacks is ``None``.

    Returns:
        The rows with their places, and the names of all columns that there are.

    Raises:
        BadInput: If the file is empty or damaged; names it and the line.
    """
    if not file.stat().st_size:
        raise BadInput(f"{str(file)!r} is empty; write rows to it, or name another file")
    return READERS[file.suffix](file, columns)


def _read_json_lines(file: Path, columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    with file.open("rb") as lines:  # not in text mode, which sees line ends inside of texts, such as U+2028
        numbered = enumerate(lines, 1)
        return _objects(
            ((Place(file, "line", number), _json(line, file, number)) for number, line in numbered if line.strip()),
            columns,
        )


def _read_json(file: Path, columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Read a list of objects, one object, or lines of objects."""
    content = file.read_bytes().removeprefix(_BOM)
    if content.lstrip()[:1] != b"[":
        try:
            rows = [json.loads(content.decode())]
        except (ValueError, RecursionError):
            return _read_json_lines(file, columns)
    else:
        rows = _json(content, file, None)
    return _objects(((Place(file, "row", number), row) for number, row in enumerate(rows)), columns)


def _json(content: bytes, file: Path, line: int | None) -> Any:
    where = str(file) if line is None else f"{file}, line {line}"
    try:
        return json.loads(content.removeprefix(_BOM).decode())
    except UnicodeDecodeError as error:
        raise _no_utf8(where, error) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} cannot be read: {error}; mend it, or copy the file again") from error


def _objects(parsed: Iterator[tuple[Place, Any]], columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    found: list[Found] = []
    names: dict[str, None] = {}
    for place, row in parsed:
        if not isinstance(row, dict):
            raise BadInput(
                f"{place.file}, {place.unit} {place.number} is a {type(row).__name__} and not an object with the "
                f"columns {', '.join(columns)}; correct it"
            )
        names.update(dict.fromkeys(row))
        found.append((place, {column: row.get(column) for column in columns}))
    return found, list(names)


def _read_csv(file: Path, columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Read a table of texts: 007 is no number, and NA an answer. A quote that is not closed is an error, no row."""
    found: list[Found] = []
    limit = csv.field_size_limit(sys.maxsize)  # of the whole process, so it is restored
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines, strict=True)
            names = next(rows, [])
            for name in names:
                if names.count(name) > 1:
                    raise BadInput(f"{file} has two columns {name!r}; rename one")
            line = rows.line_num + 1
            for cells in rows:
                if cells and len(cells) != len(names):
                    raise BadInput(
                        f"{file}, line {line}: it has {len(cells)} cells, the header {len(names)}; put texts with "
                        f"commas or line ends between double quotes"
                    )
                if cells:
                    row = dict(zip(names, cells, strict=True))
                    found.append((Place(file, "line", line), {column: row.get(column) for column in columns}))
                line = rows.line_num + 1
    except UnicodeDecodeError as error:
        raise _no_utf8(f"{file}, line {line} or behind it", error) from error
    except csv.Error as error:
        raise BadInput(f"{file}, line {line} cannot be read: {error}; mend it, or copy the file again") from error
    finally:
        csv.field_size_limit(limit)
    return found, names


def _read_parquet(file: Path, columns: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Read just the columns asked for: others may be a hundred times as large."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            names = list(table.schema_arrow.names)
            rows = table.read([column for column in columns if column in names]).to_pylist()
    except UnicodeDecodeError as error:
        raise _no_utf8(str(file), error) from error
    except (ArrowException, OSError) as error:
        raise BadInput(f"{file} cannot be read: {error}; download or copy it again") from error
    return [(Place(file, "row", number), row) for number, row in enumerate(rows)], names


def _no_utf8(where: str, error: UnicodeDecodeError) -> BadInput:
    return BadInput(f"{where} cannot be read: it is not UTF-8 ({error.reason}); save the file in that encoding")


READERS: dict[str, Callable[[Path, Sequence[str]], tuple[list[Found], list[str]]]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
"""File suffix to what reads it."""
