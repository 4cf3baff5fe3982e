"""Creative writing: a prompt with a reference text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.embedded import writing
from omnithink_pl.embedded.lexicon import uid_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import all_usable
from omnithink_pl.types import Example

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Row, Split
    from omnithink_pl.sources.curation import Check


HUMAN = ("human", "user")
ASSISTANT = ("gpt", "assistant")


@final
class CreativeWritingShareGPT(CuratedSource):
    """Nitral-AI/Creative_Writing-ShareGPT (licence "other"), or miniature rows of its shape.

    A row: ``{"conversations": [{"from": "human", "value": "Write three sentences about Mia..."},
    {"from": "gpt", "value": "One day Mia ..."}]}``, sometimes with a leading ``system`` turn.
    Only conversations of one turn are kept; their reply is the reference. The paper uses 6,650. Rows have no
    identity of their own: it is a hash of the prompt.
    """

    columns: ClassVar[tuple[str, ...]] = ("conversations",)

    def embedded_rows(self, split: Split) -> list[Row]:
        """Miniature rows of the same schema."""
        return writing.rows(split)

    def uid(self, row: Row) -> str:
        """A hash of the prompt."""
        return uid_of(self.question(row))

    def question(self, row: Row) -> str:
        """What the user says first."""
        return _turns(row)[0][1]

    def identity(self, row: Row) -> str:
        """The prompt."""
        return self.question(row)

    def category(self, row: Row) -> str:
        """Rows say nothing about that."""
        return ""

    def selection(self) -> Mapping[str, Callable[[Row], bool]]:
        """One question and one reply."""
        return {"not one turn": lambda row: [_role(speaker) for speaker, _ in _turns(row)] == ["human", "assistant"]}

    def defect(self, row: Row) -> tuple[str, str] | None:
        """Prompt and reply are needed."""
        (_, prompt), (_, reply) = _turns(row)
        if not prompt.strip() or not reply.strip():
            return "conversations", "give both turns a text or drop the row"
        return None

    def checking(self) -> AbstractContextManager[Check]:
        """Any text is a reference."""
        return nullcontext(all_usable)

    def example(self, task: str, row: Row) -> Example:
        """The prompt with the reply that is to be surpassed."""
        return Example(task, self.uid(row), self.question(row), _turns(row)[1][1])


def _turns(row: Row) -> list[tuple[str, str]]:
    """Speaker and text of every turn but a system prompt."""
    return [(turn["from"], turn["value"] or "") for turn in row["conversations"] or [] if turn["from"] != "system"]


def _role(speaker: str) -> str:
    return "human" if speaker in HUMAN else "assistant" if speaker in ASSISTANT else speaker
