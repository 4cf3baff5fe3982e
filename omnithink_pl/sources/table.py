"""Rows of your own: any table with a column of questions and one of references."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Literal, final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Curation, Defect, ParsedRow
from omnithink_pl.types import Options

Part = Literal["question", "reference", "options", "id", "category"]


@final
class Table(CuratedSource):
    """Any table of questions and references, such as rows ``{"prompt": "What is 6 x 7?", "answer": 42}``.

    A reference is a text or a number: what the task's reward compares with. Where there are options it says which of
    them is right: by its text, by its position counted from 0 (a number), or by its letter.

    Args:
        path: A ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` file; a directory in the shape of a repository on the
            hub; or a hub id.
        columns: The column of each part: ``question`` and ``reference``, by default those of that name, and where there
            are any ``options`` (a list of texts, right and wrong ones), ``id`` (else the content identifies a row) and
            ``category`` (each keeps its share when rows are sampled).
        revision: Commit, tag or branch of a hub id. Only a commit makes sure that the rows never change.
        config: Name of a configuration, where the data set has several.
        curation: Which rows are kept.
    """

    def __init__(
        self,
        path: str,
        columns: dict[Part, str] = {},  # noqa: B006  (not changed)
        revision: str | None = None,
        config: str | None = None,
        curation: Curation = Curation(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(path, revision, config, curation)
        self.parts: dict[Part, str] = {"question": "question", "reference": "reference", **columns}
        self.columns = tuple(dict.fromkeys(self.parts.values()))
        self.stratified = "category" in self.parts

    @property
    def parser_key(self) -> list[object]:
        """What rows depend on besides data and curation."""
        return [*super().parser_key, self.parts]

    def parse(self, row: Row) -> ParsedRow | Defect:
        """Return the question with its reference."""
        question, reference = _text(row[self.parts["question"]]), _text(row[self.parts["reference"]])
        uid = _text(row[self.parts["id"]]) if "id" in self.parts else text_uid(f"{question}\n{reference}")
        if not question or not reference:
            empty = self.parts["reference" if question else "question"]
            return Defect(uid, empty, "it is empty; give it a text or drop the row")
        category = _text(row[self.parts["category"]]) if "category" in self.parts else ""
        if "options" not in self.parts:
            return ParsedRow(uid, question, reference, category)
        options = row[self.parts["options"]]
        if not isinstance(options, list) or len(set(map(_text, options))) < 2 or not all(map(_text, options)):
            return Defect(uid, self.parts["options"], "it must list at least two texts; correct or drop the row")
        right = _right_option(row[self.parts["reference"]], [_text(option) for option in options])
        if right is None:
            cure = f"{reference!r} is no option's text, position (from 0) or letter; correct or drop the row"
            return Defect(uid, self.parts["reference"], cure)
        texts = tuple(_text(option) for option in options)
        return ParsedRow(uid, question, Options(texts, (right,)), category, " ".join([question, *sorted(texts)]))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _right_option(reference: Any, options: Sequence[str]) -> str | None:
    """Return the text of the option that a reference means; ``None`` if it means none."""
    if isinstance(reference, int) and not isinstance(reference, bool):
        return options[reference] if 0 <= reference < len(options) else None
    text = _text(reference)
    if text in options:
        return text
    position = ascii_uppercase.find(text) if len(text) == 1 else -1
    return options[position] if 0 <= position < len(options) else None
