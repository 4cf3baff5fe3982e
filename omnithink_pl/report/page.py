"""A report as one HTML page that needs nothing else: styles and pictures are in it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from omnithink_pl.report.table import Table

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
