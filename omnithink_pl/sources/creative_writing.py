"""Creative writing: a prompt with a reference text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, final

from omnithink_pl.sources.base import Row, text_uid
from omnithink_pl.sources.cells import UnusableRow, as_text, list_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow

_HUMAN = ("human", "user")
_ASSISTANT = ("gpt", "assistant")


def _turns(row: Row) -> list[tuple[str, object]]:
    """Return speaker and text of every turn but a system prompt."""
    try:
        found = [(turn["from"], turn["value"]) for turn in list_of(row, "conversations")]
    except (TypeError, KeyError) as error:
        raise UnusableRow("conversations", f"it is no list of turns with from and value ({error!r})") from error
    return [(speaker, text) for speaker, text in found if speaker != "system"]


def _has_one_turn(row: Row) -> bool:
    speakers = [speaker for speaker, _ in _turns(row)]
    return len(speakers) == 2 and speakers[0] in _HUMAN and speakers[1] in _ASSISTANT


@final
class CreativeWritingShareGPT(CuratedSource):
    """Nitral-AI/Creative_Writing-ShareGPT (licence "other").

    A row: ``{"conversations": [{"from": "human", "value": "Write three sentences about Mia..."},
    {"from": "gpt", "value": "One day Mia ..."}]}``, sometimes with a leading ``system`` turn.
    Only conversations of one turn are kept; the reply is the reference. The paper uses 6,650. Rows have no
    id of their own: it is a hash of the prompt.
    """

    columns = ("conversations",)
    filters: ClassVar[Mapping[str, Callable[[Row], bool]]] = {"not one turn": _has_one_turn}

    def parse(self, row: Row) -> ParsedRow:
        """Return the prompt with the reply that a completion is compared to."""
        prompt, reply = (as_text(text, "conversations") for _, text in _turns(row))
        return ParsedRow(text_uid(prompt), prompt, reply)
