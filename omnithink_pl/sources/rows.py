"""What sources say of a data set's rows."""

from __future__ import annotations

from typing import Any

from omnithink_pl.errors import BadInput

Row = dict[str, Any]

EMBEDDED = "embedded"


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
