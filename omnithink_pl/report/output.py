"""Write tables and figures as Markdown, HTML, CSV and PNG."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.errors import BadInput
from omnithink_pl.report.format import markdown_table

_INTERVAL = re.compile(r"(.*?) (\(.* to .*?\).*)")  # a value, and its interval in brackets
# Columns beyond which the intervals stand below the values, and then in small print, so that a laptop shows them all.
_MANY, _VERY_MANY = 7, 12


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

    def csv(self) -> str:
        """Return the numbers as CSV; fractions, not percent."""
        out = io.StringIO()
        names = list(dict.fromkeys(name for record in self.records for name in record))
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return out.getvalue()


Section = Table | tuple[str, str, Figure]
"""A table, or key, title and figure."""


def numbers(prefix: str, estimate: Estimate) -> dict[str, float | str]:
    """Return an estimate's numbers for a record; the ends are empty where there is no interval."""
    low, high = (round(estimate.low, 6), round(estimate.high, 6)) if estimate.known else ("", "")
    return {prefix: round(estimate.value, 6), f"{prefix}_low": low, f"{prefix}_high": high}


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG image."""
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight")
    return out.getvalue()


def html_page(title: str, made: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a page that needs no other file."""
    from jinja2 import Environment

    template = (files("omnithink_pl.report") / "study.html.jinja").read_text()
    page = Environment(autoescape=True).from_string(template)
    return page.render(title=title, made=made, warnings=warnings, sections=[_section(one) for one in sections])


def _section(section: Section) -> dict[str, Any]:
    if not isinstance(section, Table):
        key, title, figure = section
        image = base64.b64encode(png(figure)).decode()
        return {"key": key, "title": title, "image": image, "width": round(96 * figure.get_figwidth())}
    columns = len(section.columns)
    return {
        "key": section.key,
        "title": section.title,
        "columns": section.columns,
        "rows": [[_split(cell) for cell in row] for row in section.rows],
        "note": section.note,
        "style": "tight" if columns > _VERY_MANY else "dense" if columns > _MANY else "",
    }


def _split(cell: str) -> tuple[str, str]:
    match = _INTERVAL.fullmatch(cell)
    return (match[1], match[2]) if match else (cell, "")


def write_files(contents: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files into a folder.

    Raises:
        BadInput: If that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
