"""Completions and verdicts on disk, one JSON object a line, appended as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput
from omnithink_pl.types import Completion, Outcome, State

if TYPE_CHECKING:
    from omnithink_pl.types import FinishReason


Key = tuple[str, int, int]


@dataclass(frozen=True)
class Record:
    """One completion with its verdict.

    Args:
        task: Whose rewards scored it.
        uid: Of the example.
        turn: 1, or 2 behind the policy's own first answer.
        sample: Which of the prompt's completions.
        category: Of the example.
        completion: The text.
        tokens: How many it has.
        finish_reason: Why it ended.
        state: ``value``, ``undefined`` or ``failed``.
        value: The verdict in [0, 1], if it is one.
        reason: Why it is none.
    """

    task: str
    uid: str
    turn: int
    sample: int
    category: str
    completion: str
    tokens: int
    finish_reason: FinishReason
    state: str
    value: float | None
    reason: str

    @property
    def key(self) -> Key:
        """What tells completions of a benchmark apart."""
        return self.uid, self.turn, self.sample

    @property
    def outcome(self) -> Outcome:
        """The verdict."""
        return Outcome(State(self.state), self.value, self.reason)

    @property
    def sampled(self) -> Completion:
        """The completion, without its tokens."""
        return Completion((), (), self.completion, self.finish_reason)


class Journal:
    """A file of records that only grows, so that a killed run loses no more than what was in flight.

    Args:
        path: The file; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[Key, Record]:
        """The records by key; of several with one key the last, which was scored anew.

        A last line without its end was torn by a kill, and is not there.

        Raises:
            BadInput: If the file cannot be read, or another line is not a record; names it.
        """
        if not self.path.exists():
            return {}
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise BadInput(f"cannot read {self.path}: {error}") from error
        found: dict[Key, Record] = {}
        for number, line in enumerate(text.split("\n")[:-1], 1):
            try:
                record = Record(**json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise BadInput(f"{self.path}, line {number}: no record of a benchmark ({error}); delete it") from error
            found[record.key] = record
        return found

    def append(self, records: Iterable[Record]) -> None:
        """Add records and see to it that they are on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
        with self.path.open("ab") as file:
            if file.tell() and not self._whole():
                file.truncate(self._end())
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def _whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _end(self) -> int:
        """Where the last whole line ends."""
        return self.path.read_bytes().rfind(b"\n") + 1
