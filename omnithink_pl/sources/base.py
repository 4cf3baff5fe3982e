"""Where examples come from: one class a dataset, rows in, examples out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.types import Example


Split = Literal["train", "test"]


class Source(ABC):
    """Loads one dataset.

    A source turns rows into examples with ``question`` and ``reference``; prompts are the
    task's business, so ``messages`` stays empty.
    """

    @abstractmethod
    def examples(self, task: str, split: Split) -> list[Example]:
        """Every example of a split, in a fixed order.

        Args:
            task: Name to put on the examples.
            split: ``train``, or ``test`` for held-out rows.

        Raises:
            BadInput: If a row has no usable reference; names the source, the row and the cure.
        """


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
