"""SuperGPQA: multiple-choice questions of many disciplines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.embedded import qa
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import all_usable
from omnithink_pl.types import Example, Options

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Row, Split
    from omnithink_pl.sources.curation import Check


@final
class SuperGPQA(CuratedSource):
    """m-a-p/SuperGPQA (ODC-BY; 26,529 rows), or miniature rows of its shape.

    A row: ``{"uuid": "4a1c...", "question": "What is the capital of Peru?", "options": ["Lima", "Rome", ...],
    "answer": "Lima", "answer_letter": "A", "discipline": "Geography", "field": "...", "subfield": "...",
    "difficulty": "easy", "is_calculation": false}``, with up to ten options. The paper draws 5,500 in proportion
    to the disciplines. Some questions come from MMLU-Pro: name that under ``curation.decontaminate``.
    """

    columns: ClassVar[tuple[str, ...]] = ("uuid", "question", "options", "answer", "discipline")
    proportional: ClassVar[bool] = True

    def embedded_rows(self, split: Split) -> list[Row]:
        """Miniature rows of the same schema."""
        return qa.rows(split)

    def uid(self, row: Row) -> str:
        """The row's own."""
        return str(row["uuid"])

    def question(self, row: Row) -> str:
        """The question without its options."""
        return str(row["question"])

    def identity(self, row: Row) -> str:
        """Many questions differ in their options only."""
        return " ".join([self.question(row), *sorted(row["options"])])

    def category(self, row: Row) -> str:
        """One of 13 disciplines."""
        return str(row["discipline"])

    def selection(self) -> Mapping[str, Callable[[Row], bool]]:
        """Everything is wanted."""
        return {}

    def defect(self, row: Row) -> tuple[str, str] | None:
        """The answer is one of the options, and not the only one."""
        if not (row["question"] or "").strip():
            return "question", "it is empty; give it a text or drop the row"
        if row["answer"] not in (row["options"] or []):
            return "answer", f"{row['answer']!r} must equal one of 'options'; correct or drop the row"
        if None in row["options"]:
            return "options", "one of them is missing; give it a text or drop the row"
        if len(set(row["options"])) < 2:
            return "options", "there is no choice; correct or drop the row"
        return None

    def checking(self) -> AbstractContextManager[Check]:
        """An answer that is an option is right."""
        return nullcontext(all_usable)

    def example(self, task: str, row: Row) -> Example:
        """The question with its options."""
        return Example(task, self.uid(row), self.question(row), Options(tuple(row["options"]), (row["answer"],)))
