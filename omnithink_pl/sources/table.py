"""Rows of your own: any table with a column of questions and one of references."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Literal, final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.cells import UnusableRow, optional_text_of, text_of, texts_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import Curation, ParsedRow
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
        self.id_column = self.parts.get("id")
        self.stratified = "category" in self.parts

    @property
    def parser_key(self) -> list[object]:
        """What rows depend on besides data and curation."""
        return [*super().parser_key, self.parts]

    def parse(self, row: Row) -> ParsedRow:
        """Return the question with its reference."""
        question, reference = (text_of(row, self.parts[part]).strip() for part in ("question", "reference"))
        uid = text_of(row, self.id_column).strip() if self.id_column else text_uid(f"{question}\n{reference}")
        category = optional_text_of(row, self.parts["category"]).strip() if "category" in self.parts else ""
        if "options" not in self.parts:
            return ParsedRow(uid, question, reference, category)
        options = tuple(option.strip() for option in texts_of(row, self.parts["options"]))
        if len(set(options)) < 2:
            raise UnusableRow(self.parts["options"], "it must list at least two texts; correct or drop the row")
        right = _right_option(row[self.parts["reference"]], options)
        if right is None:
            cure = f"{reference!r} is no option's text, position (from 0) or letter; correct or drop the row"
            raise UnusableRow(self.parts["reference"], cure)
        return ParsedRow(uid, question, Options(options, (right,)), category, " ".join([question, *sorted(options)]))


def _right_option(reference: Any, options: Sequence[str]) -> str | None:
    """Return the text of the option that a reference means; ``None`` if it means none."""
    if isinstance(reference, int) and not isinstance(reference, bool):
        return options[reference] if 0 <= reference < len(options) else None
    text = str(reference).strip()
    if text in options:
        return text
    position = ascii_uppercase.find(text) if len(text) == 1 else -1
    return options[position] if 0 <= position < len(options) else None
