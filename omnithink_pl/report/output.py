"""Numbers as text, with their intervals; tables and figures as Markdown, HTML, CSV and PNG."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # the console does without it

Number = Callable[[float, int], str]
UNMEASURED = "-"
_MINUS = "−"  # unlike a hyphen, it is not broken off at the end of a line
_INTERVAL = re.compile(r"(.*?) (\(.* to .*?\).*)")  # a value, and its interval in brackets


def percent(value: float, digits: int = 0) -> str:
    """Return ``71``; ``-`` for NaN."""
    return UNMEASURED if isnan(value) else f"{100 * value:.{digits}f}".replace("-", _MINUS)


def points(value: float, digits: int = 0, minus: str = _MINUS) -> str:
    """Return ``+4``, ``−1`` or ``0``, without a negative zero; ``-`` for NaN."""
    if isnan(value):
        return UNMEASURED
    number = round(100 * value, digits)
    return (f"{number:+.{digits}f}" if number else f"{0:.{digits}f}").replace("-", minus)


def interval(found: Estimate, number: Number = percent, digits: int = 0) -> str:
    """Return ``57 to 62``."""
    return f"{number(found.low, digits)} to {number(found.high, digits)}"


def with_interval(found: Estimate, number: Number = percent, digits: int = 1) -> str:
    """Return ``59.6 (57.1 to 62.0)``; the value alone if it has no interval."""
    value = number(found.value, digits)
    return f"{value} ({interval(found, number, digits)})" if found.known else value


def row_name(label: str) -> str:
    """Return ``after code`` for the label ``1 code`` of a score matrix."""
    number, _, stage = label.partition(" ")
    return f"after {stage}" if number.isdigit() else label


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table whose first column names the rows."""
    lines = [list(columns), *map(list, rows)]
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def numbers(prefix: str, estimate: Estimate) -> dict[str, float | str]:
    """Return an estimate's numbers for a record; the ends are empty where there is no interval."""
    low, high = (round(estimate.low, 6), round(estimate.high, 6)) if estimate.known else ("", "")
    return {prefix: round(estimate.value, 6), f"{prefix}_low": low, f"{prefix}_high": high}


@dataclass(frozen=True)
class Table:
    """A table for reading, and the numbers behind it."""

    key: str  # name of its file
    title: str
    columns: Sequence[str]  # headings of the columns
    rows: Sequence[Sequence[str]]  # cells as text; the first of a row names it
    note: str = ""  # what a reader must know to read it right
    records: Sequence[Mapping[str, Any]] = ()  # the numbers in full, one record a line of the CSV file

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", *markdown_table(self.columns, self.rows), ""]
        return "\n".join([*lines, *([self.note, ""] if self.note else [])])

    def file(self) -> tuple[str, str]:
        """Return the name of the CSV file, and the numbers in it; fractions, not percent."""
        out = io.StringIO()
        names = list(dict.fromkeys(name for record in self.records for name in record))
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return f"{self.key}.csv", out.getvalue()


@dataclass(frozen=True)
class Picture:
    """A figure with its title."""

    key: str  # name of its file
    title: str
    figure: Figure

    def markdown(self) -> str:
        """Return a reference to the file."""
        return f"![{self.title}]({self.key}.png)"

    def file(self) -> tuple[str, bytes]:
        """Return the name of the file, and the image in it."""
        out = io.BytesIO()
        self.figure.savefig(out, format="png", bbox_inches="tight")
        return f"{self.key}.png", out.getvalue()


Section = Table | Picture


def html_page(title: str, made: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a page that needs no other file."""
    from jinja2 import Environment

    def image(picture: Picture) -> str:
        return base64.b64encode(picture.file()[1]).decode()

    def split(cell: str) -> tuple[str, str]:
        match = _INTERVAL.fullmatch(cell)
        return (match[1], match[2]) if match else (cell, "")

    page = Environment(autoescape=True).from_string((files("omnithink_pl.report") / "study.html.jinja").read_text())
    return page.render(title=title, made=made, warnings=warnings, sections=sections, image=image, split=split)


def write_files(contents: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files into a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
