"""Creative writing: a prompt with a reference text."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from omnithink_pl.embedded import writing
from omnithink_pl.embedded.partition import uid_of
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.rows import load_rows, unusable
from omnithink_pl.types import Example

if TYPE_CHECKING:
    from omnithink_pl.sources.rows import Row

HUMAN = ("human", "user")
ASSISTANT = ("gpt", "assistant")
COLUMNS = ("conversations",)


@final
class CreativeWritingShareGPT(Source):
    """Nitral-AI/Creative_Writing-ShareGPT (licence "other"), or miniature rows of its shape.

    A row: ``{"conversations": [{"from": "human", "value": "Write three sentences about Mia..."},
    {"from": "gpt", "value": "One day Mia ..."}]}``, sometimes with a leading ``system`` turn.
    Only conversations of one turn are kept; their reply is the reference. Rows have no
    identity of their own: it is a hash of the prompt.

    Args:
        path: ``embedded``, a local file or directory, or a hub id.
    """

    def __init__(self, path: str = "embedded") -> None:
        self.path = path

    def examples(self, task: str, split: Split) -> list[Example]:
        """Every one-turn conversation of a split.

        Raises:
            BadInput: If a row has an empty prompt or reply.
        """
        rows = load_rows(self.path, split, COLUMNS, writing.rows, lambda row: uid_of(_turns(row)[0][1]))
        return [
            self._example(task, index, row)
            for index, row in enumerate(rows)
            if [_role(speaker) for speaker, _ in _turns(row)] == ["human", "assistant"]
        ]

    def _example(self, task: str, index: int, row: Row) -> Example:
        (_, prompt), (_, reply) = _turns(row)
        uid = uid_of(prompt)
        if not prompt.strip() or not reply.strip():
            cure = "give both turns a text or drop the row"
            raise unusable(f"CreativeWritingShareGPT({self.path})", index, uid, "conversations", cure)
        return Example(task, uid, prompt, reply)


def _turns(row: Row) -> list[tuple[str, str]]:
    """Speaker and text of every turn but a system prompt."""
    return [(turn["from"], turn["value"] or "") for turn in row["conversations"] if turn["from"] != "system"]


def _role(speaker: str) -> str:
    return "human" if speaker in HUMAN else "assistant" if speaker in ASSISTANT else speaker
