"""Verdicts that were given once, kept for later runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from omnithink_pl.judge.prompt import Letter

_VERDICTS = Table(
    "verdicts",
    MetaData(),
    Column("key", String(64), primary_key=True),
    Column("verdict", String(1), nullable=False),
    Column("judge", String, nullable=False),
    Column("prompt", String, nullable=False),
    Column("given", Float, nullable=False),
)
_AT_ONCE = 500  # SQLite limits the number of variables in a statement


@final
class VerdictCache:
    """A table in an SQLite file; several threads and processes may use it at once.

    It holds hashes of the questions and not their texts. Failures are never kept.

    Args:
        path: The file; made with its folder when first used.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def get(self, keys: Sequence[str]) -> dict[str, Letter]:
        """The verdicts that are known, by key."""
        known: dict[str, Letter] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = _VERDICTS.c.key.in_(keys[start : start + _AT_ONCE])
                for key, verdict in connection.execute(select(_VERDICTS.c.key, _VERDICTS.c.verdict).where(some)):
                    known[key] = cast("Letter", verdict)
        return known

    def put(self, key: str, verdict: Letter, judge: str, prompt: str) -> None:
        """Keep a verdict; one that is known already stays, so that a question has one answer for ever."""
        row = {"key": key, "verdict": verdict, "judge": judge, "prompt": prompt, "given": time.time()}
        with self._engine.begin() as connection:
            connection.execute(insert(_VERDICTS).values(row).on_conflict_do_nothing())

    def close(self) -> None:
        """Close the file; it is opened again when used again."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self._engine

    @cached_property
    def _engine(self) -> Engine:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": 30})
            event.listen(engine, "connect", _write_ahead)
            with engine.begin() as connection:  # not create_all, which asks first and is late where two begin at once
                connection.execute(CreateTable(_VERDICTS, if_not_exists=True))
        except (OSError, OperationalError) as error:
            raise BadInput(
                f"judge.cache: cannot open {self.path}: {error}; choose another file, or null for none"
            ) from error
        return engine


def _write_ahead(connection: object, record: object) -> None:
    """Readers do not wait for the writer, and a kill loses at most the last verdicts, never the file."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
