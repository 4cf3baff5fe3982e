"""Journal of a suite: completions and verdicts on disk, one JSON object per line, appended chunk by chunk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput
from omnithink_pl.types import Outcome, State

if TYPE_CHECKING:
    from omnithink_pl.types import FinishReason


Key = tuple[str, int, int]  # uid, turn, sample: identifies a completion of a suite


@dataclass(frozen=True)
class Record:
    """One completion with its verdict."""

    task: str  # whose rewards scored it
    uid: str
    turn: int  # 1, or 2 for the answer that follows the policy's own first answer
    sample: int  # number among the completions of its prompt
    category: str
    completion: str  # text
    tokens: int  # length
    finish_reason: FinishReason
    state: str  # `value`, `undefined` or `failed`
    value: float | None  # in [0, 1] if the state is `value`
    reason: str  # why there is none otherwise

    @property
    def key(self) -> Key:
        """Identity of the completion within its suite."""
        return self.uid, self.turn, self.sample

    @property
    def failed(self) -> bool:
        """Whether it could not be scored."""
        return self.state == State.FAILED

    @property
    def outcome(self) -> Outcome:
        """The verdict."""
        return Outcome(State(self.state), self.value, self.reason)


def read_records(path: Path) -> dict[Key, Record]:
    """Return the records of a file by key; the last of several with one key, since it was scored again.

    A last line without a newline was torn by a kill and is ignored.

    Raises:
        BadInput: If the file cannot be read, or another line is not a record; names it.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    found: dict[Key, Record] = {}
    # Not splitlines: completions may hold other separators unescaped.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            record = Record(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise BadInput(f"{path}, line {number}: no record of a benchmark ({error}); delete it") from error
        found[record.key] = record
    return found


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append records and flush them to disk, so that a kill loses no more than the chunk in progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # torn by a kill
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())
