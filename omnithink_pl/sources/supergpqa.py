"""SuperGPQA: multiple-choice questions of many disciplines."""

from __future__ import annotations

from typing import final

from omnithink_pl.sources.base import Row
from omnithink_pl.sources.cells import UnusableRow, text_of, texts_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow
from omnithink_pl.types import Options


@final
class SuperGPQA(CuratedSource):
    """m-a-p/SuperGPQA (ODC-BY; 26,529 rows).

    A row: ``{"uuid": "4a1c...", "question": "What is the capital of Peru?", "options": ["Lima", "Rome", ...],
    "answer": "Lima", "answer_letter": "A", "discipline": "Geography", "field": "...", "subfield": "...",
    "difficulty": "easy", "is_calculation": false}``, with up to ten options. The paper samples 5,500 in proportion
    to the 13 disciplines. Some questions come from MMLU-Pro: name that under ``curation.decontaminate``.
    """

    columns = ("uuid", "question", "options", "answer", "discipline")
    id_column = "uuid"
    stratified = True

    def parse(self, row: Row) -> ParsedRow:
        """Return the question with its options, of which the answer is one; the category is the discipline."""
        question, answer, options = text_of(row, "question"), text_of(row, "answer"), texts_of(row, "options")
        if answer not in options:
            raise UnusableRow("answer", f"{answer!r} must equal one of 'options'; correct or drop the row")
        if len(set(options)) < 2:
            raise UnusableRow("options", "there is no choice; correct or drop the row")
        return ParsedRow(
            text_of(row, "uuid"),
            question,
            Options(tuple(options), (answer,)),
            category=str(row["discipline"]),
            identity=f"{question}\n{answer}",  # "Which is true?" is many questions
        )
