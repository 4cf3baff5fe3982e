"""What a cell of a table may hold: texts that can be read, hashed, tokenised and stored; anything else is named."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

_INVISIBLE = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf"))  # spaces, line ends, controls, byte order marks, joiners
_WRITTEN = (str, int, float, Decimal, date, time)  # what has one obvious text; a date is what some files make of one


class UnusableRow(Exception):
    """A row cannot be used.

    Args:
        column: The column at fault.
        cure: What is wrong, and what to do about it.
    """

    def __init__(self, column: str, cure: str) -> None:
        super().__init__(f"column {column!r}: {cure}")
        self.column = column
        self.cure = cure


def text_defect(value: object) -> str:
    r"""Return why a value is no usable text, and the cure; empty if it is one.

    A number counts as its digits, and NaN as missing, because pandas writes a missing value so. A lone surrogate, half
    of a character, cannot be encoded: tokenizers, databases and files refuse it. A NUL ends a text in some of them, and
    comes from text in UTF-16 that was read as something else.

    Example:
        >>> text_defect(["What is 1 + 1?"])
        'it is a list and not a text; correct or drop the row'
        >>> text_defect("\u200b\ufeff ")
        'it is empty; give it a text or drop the row'
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "it is empty; give it a text or drop the row"
    if not isinstance(value, _WRITTEN):
        return f"it is a {type(value).__name__} and not a text; correct or drop the row"
    text = str(value)
    if is_blank(text):
        return "it is empty; give it a text or drop the row"
    if "\0" in text:
        return "it has a NUL character; remove that, or drop the row"
    if found := next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None):
        return f"it has half a character (a lone surrogate, U+{ord(found):X}); correct or drop the row"
    return ""


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: spaces, controls, and characters without width only."""
    return all(unicodedata.category(letter) in _INVISIBLE for letter in text)


def as_text(value: object, column: str) -> str:
    """Return a cell's text; raises ``UnusableRow`` if it has none."""
    if defect := text_defect(value):
        raise UnusableRow(column, defect)
    return str(value)


def text_of(row: Mapping[str, Any], column: str) -> str:
    """Return the text in a column; raises ``UnusableRow`` if there is none."""
    return as_text(row[column], column)


def optional_text_of(row: Mapping[str, Any], column: str) -> str:
    """Return the text in a column, empty if there is none; raises ``UnusableRow`` for what is no text."""
    value = row[column]
    return "" if value is None or (isinstance(value, str) and is_blank(value)) else as_text(value, column)


def list_of(row: Mapping[str, Any], column: str) -> list[Any]:
    """Return the list in a column; raises ``UnusableRow`` if there is none."""
    value = row[column]
    if not isinstance(value, list):
        found = "it is empty" if value is None else f"it is a {type(value).__name__} and not a list"
        raise UnusableRow(column, f"{found}; give it a list or drop the row")
    return value


def texts_of(row: Mapping[str, Any], column: str) -> list[str]:
    """Return the texts listed in a column; raises ``UnusableRow`` where there is none."""
    return [as_text(value, f"{column}[{place}]") for place, value in enumerate(list_of(row, column))]
