"""A table that is written as Markdown, as HTML and as CSV."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from omnithink_pl.report.estimates import Estimate


@dataclass(frozen=True)
class Table:
    """A table for reading, and the numbers behind it.

    Args:
        key: Name of its file.
        title: Heading.
        columns: Headings of the columns.
        rows: Cells as text; the first of a row names it.
        note: What a reader must know to read it right.
        records: The numbers in full, one record a line of the CSV file.
    """

    key: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    records: Sequence[Mapping[str, Any]] = ()

    def markdown(self) -> str:
        """As Markdown."""
        lines = [f"### {self.title}", ""]
        lines += [_line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])

    def csv(self) -> str:
        """As CSV; fractions, not percent."""
        out = io.StringIO()
        names = list(dict.fromkeys(name for record in self.records for name in record))
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return out.getvalue()


def percent(estimate: Estimate) -> str:
    """``59.6 (57.1 to 62.0)``."""
    value = f"{100 * estimate.value:.1f}"
    return f"{value} ({_short(estimate.low)} to {_short(estimate.high)})" if estimate.known else value


def points(estimate: Estimate) -> str:
    """``+3.7 (+1.2 to +6.1)``; a true minus sign, so that it is not broken off."""
    value = signed(estimate.value)
    return f"{value} ({signed(estimate.low)} to {signed(estimate.high)})" if estimate.known else value


def signed(value: float, digits: int = 1) -> str:
    """``+3.7``, ``−1.2``, ``0.0`` in points; a true minus sign, so that it is not broken off."""
    number = round(100 * value, digits)
    return (f"{number:+.{digits}f}" if number else f"{0:.{digits}f}").replace("-", "−")


def numbers(prefix: str, estimate: Estimate) -> dict[str, float | str]:
    """An estimate's numbers for a record; empty where there is no interval."""
    ends = (round(estimate.low, 6), round(estimate.high, 6)) if estimate.known else ("", "")
    return {prefix: round(estimate.value, 6), f"{prefix}_low": ends[0], f"{prefix}_high": ends[1]}


def _short(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


_ENDS = re.compile(r"(.*?) (\(.* to .*?\).*)")  # the brackets with an interval, set lighter

# Columns beyond which the intervals stand below the values, and then in small print, so that a laptop shows them all.
_MANY, _VERY_MANY = 7, 12

Section = Table | tuple[str, str, Figure]


def html_page(title: str, made: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: Of the page.
        made: What it was made from, and when.
        warnings: What a reader must see first.
        sections: Tables, and figures as (key, title, figure), in their order.
    """
    from jinja2 import Environment

    template = (files("omnithink_pl.report") / "study.html.jinja").read_text()
    page = Environment(autoescape=True).from_string(template)
    return page.render(title=title, made=made, warnings=warnings, sections=[_section(one) for one in sections])


def png(figure: Figure) -> bytes:
    """A figure as a PNG image."""
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight")
    return out.getvalue()


def _section(section: Section) -> dict[str, Any]:
    if isinstance(section, Table):
        rows = [[_split(cell) for cell in row] for row in section.rows]
        return {
            "key": section.key,
            "title": section.title,
            "columns": section.columns,
            "rows": rows,
            "note": section.note,
            "style": "tight" if len(section.columns) > _VERY_MANY else "dense" if len(section.columns) > _MANY else "",
        }
    key, title, figure = section
    image = base64.b64encode(png(figure)).decode()
    return {"key": key, "title": title, "image": image, "width": round(96 * figure.get_figwidth())}


def _split(cell: str) -> tuple[str, str]:
    match = _ENDS.fullmatch(cell)
    return (match[1], match[2]) if match else (cell, "")
