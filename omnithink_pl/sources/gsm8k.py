"""GSM8K: word problems of grade school."""

from __future__ import annotations

import re
from typing import final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.cells import UnusableRow, text_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow

_MARK = "####"
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)(/\d+)?%?")


def _gold(answer: str) -> str | None:
    """Return the number behind the last ``####``; ``None`` if there is none.

    Example:
        >>> _gold("He made 120,000-50,000=<<120000-50000=70000>>70,000 #### $70,000.")
        '70000'
    """
    _, mark, text = answer.rpartition(_MARK)
    text = text.strip().removesuffix(".").replace(",", "").replace("$", "").replace(" ", "")
    return text if mark and _NUMBER.fullmatch(text) else None


@final
class GSM8K(CuratedSource):
    r"""openai/gsm8k (MIT; configuration ``main``: 7,473 training and 1,319 test rows; Cobbe et al. 2021).

    A row: ``{"question": "Janet's ducks lay 16 eggs ...", "answer": "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 ...\n####
    18"}``. The gold answer follows ``####``, with commas between thousands; the steps before it are not used. Rows have
    no id of their own: it is a hash of the question.
    """

    columns: tuple[str, ...] = ("question", "answer")

    def parse(self, row: Row) -> ParsedRow:
        """Return the problem with its gold answer."""
        question = text_of(row, "question")
        gold = _gold(text_of(row, "answer"))
        if gold is None:
            raise UnusableRow("answer", f"it does not end in {_MARK!r} and a number; correct or drop the row")
        return ParsedRow(text_uid(question), question, gold)
