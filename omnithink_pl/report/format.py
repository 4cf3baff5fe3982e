"""Numbers as text: fractions as percent and points, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isnan

from omnithink_pl.curriculum.score_matrix import Estimate

UNMEASURED = "-"
_MINUS = "−"  # unlike a hyphen, it is not broken off at the end of a line


def percent(value: float, digits: int = 0) -> str:
    """Return ``71``; ``-`` for NaN."""
    return UNMEASURED if isnan(value) else f"{100 * value:.{digits}f}".replace("-", _MINUS)


def points(value: float, digits: int = 0, minus: str = _MINUS) -> str:
    """Return ``+4``, ``−1`` or ``0``, without a negative zero; ``-`` for NaN."""
    if isnan(value):
        return UNMEASURED
    number = round(100 * value, digits)
    return (f"{number:+.{digits}f}" if number else f"{0:.{digits}f}").replace("-", minus)


Number = Callable[[float, int], str]


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
