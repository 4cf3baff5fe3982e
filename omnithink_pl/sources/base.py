"""Where examples come from: one class a dataset, rows in, examples out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

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
