"""SuperGPQA: multiple-choice questions of many disciplines."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from omnithink_pl.embedded import qa
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.rows import load_rows, unusable
from omnithink_pl.types import Example, Options

if TYPE_CHECKING:
    from omnithink_pl.sources.rows import Row

COLUMNS = ("uuid", "question", "options", "answer")


@final
class SuperGPQA(Source):
    """m-a-p/SuperGPQA (ODC-BY), or miniature rows of its shape.

    A row: ``{"uuid": "4a1c...", "question": "What is the capital of Peru?", "options": ["Lima", "Rome", ...],
    "answer": "Lima", "answer_letter": "A", "discipline": "Geography", "field": "...", "subfield": "...",
    "difficulty": "easy", "is_calculation": false}``, with up to ten options.

    Args:
        path: ``embedded``, a local file or directory, or a hub id.
    """

    def __init__(self, path: str = "embedded") -> None:
        self.path = path

    def examples(self, task: str, split: Split) -> list[Example]:
        """Every question of a split.

        Raises:
            BadInput: If the answer of a row is not one of its options.
        """
        rows = load_rows(self.path, split, COLUMNS, qa.rows, lambda row: str(row["uuid"]))
        return [self._example(task, index, row) for index, row in enumerate(rows)]

    def _example(self, task: str, index: int, row: Row) -> Example:
        if row["answer"] not in row["options"]:
            cure = "it must equal one of 'options'; correct or drop the row"
            raise unusable(f"SuperGPQA({self.path})", index, row["uuid"], "answer", cure)
        return Example(task, str(row["uuid"]), row["question"], Options(tuple(row["options"]), (row["answer"],)))
