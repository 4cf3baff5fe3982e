"""MMLU: multiple-choice questions of 57 subjects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import ascii_uppercase
from typing import Any, ClassVar, final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.cells import UnusableRow, list_of, text_of, texts_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow
from omnithink_pl.types import Options

# Options that say which others are right: by their letters, "Both A and C", or by their place, "none of the above".
_LETTER = r"(?:\(?(?-i:[A-E])\)?|\([a-e]\))"
_BY_LETTER = re.compile(
    rf"(both|either|neither|only|all)?\s*{_LETTER}((\s|,|&|\band|\bor|\bnor)+{_LETTER})+\s*(only)?\.?"
    r"|.*\b(?:in|by|of|both|and|or|method|statement|option|answer|choice)\s+\((?-i:[A-E])\).*",  # the method in (A)
    re.IGNORECASE | re.DOTALL,
)
_BY_PLACE = re.compile(
    r"\b(all|any|both|each|either|n[ei]+ther|none|some)\b.{0,30}\b(above|below|preceding|following)\b", re.IGNORECASE
)


def _stands_alone(row: Row) -> bool:
    """Return whether each option can be understood without the letters and the order of the others."""
    texts = [str(text).strip() for text in list_of(row, "choices")]
    return not any(_BY_LETTER.fullmatch(text) or _BY_PLACE.search(text) for text in texts)


def _place(answer: Any) -> int | None:
    """Return the place of the answer, which copies of the data give as 2, "2" or "C"."""
    text = str(answer).strip()
    if text.isdecimal():
        return int(text)
    return ascii_uppercase.index(text) if len(text) == 1 and text in ascii_uppercase else None


@final
class MMLU(CuratedSource):
    """cais/mmlu (MIT; configuration ``all``: 99,842 rows to train on, 14,042 test rows; Hendrycks et al. 2021).

    A row: ``{"question": "A frameshift mutation is created when", "subject": "college_biology", "choices": ["telomeric
    sequences are removed from DNA", ...], "answer": 2}``. The training split, ``auxiliary_train``, has questions of
    other data sets (ARC, OpenBookQA, RACE), some behind a long passage: see ``curation.max_prompt_characters``.

    Options are shown in random order and without letters, and the answer is a text. Left out are therefore questions
    with an option that names others, such as *both A and C* or *none of the above*. Rows have no id of their own: it is
    a hash of question and options.
    """

    columns: tuple[str, ...] = ("question", "choices", "answer")
    train_split: ClassVar[str] = "auxiliary_train"
    filters: ClassVar[Mapping[str, Callable[[Row], bool]]] = {"an option names others": _stands_alone}

    def parse(self, row: Row) -> ParsedRow:
        """Return the question with its options, of which the answer is one."""
        question, choices = text_of(row, "question").strip(), texts_of(row, "choices")
        uid = text_uid(" ".join([question, *sorted(choices)]))
        texts = [choice.strip() for choice in choices]
        if len(set(texts)) < 2:
            raise UnusableRow("choices", "there is no choice; correct or drop the row")
        place = _place(text_of(row, "answer"))
        if place is None or place >= len(texts):
            cure = (
                f"{row['answer']!r} must be the place of one of {len(texts)} choices, from 0; correct or drop the row"
            )
            raise UnusableRow("answer", cure)
        options = Options(tuple(dict.fromkeys(texts)), (texts[place],))
        return ParsedRow(uid, question, options, identity=f"{question}\n{texts[place]}")  # "Which is true?" is many
