"""The interface of a data set: a split's rows as examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import Any, Literal

from omnithink_pl.types import Example

Row = dict[str, Any]
Split = Literal["train", "test"]


class Source(ABC):
    """A data set that turns its rows into examples.

    A source fills in ``question`` and ``reference``. Prompts are made by the task, so ``messages`` stays empty.
    """

    @abstractmethod
    def examples(self, task: str, split: Split) -> list[Example]:
        """Return every example of a split, in a fixed order.

        Args:
            task: Name to put on the examples.
            split: ``train``, or ``test`` for held-out rows.

        Raises:
            BadInput: If a row has no usable reference; names the source, the row and the cure.
        """


def text_uid(text: str) -> str:
    """Hash a text to a short id that is the same in every process, for rows that have none of their own."""
    return blake2b(text.encode(), digest_size=6).hexdigest()
