"""The cache of verdicts, and statistics of a judge."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import Judged, JudgeUnavailable, Preference

if TYPE_CHECKING:
    from omnithink_pl.judge.base import Letter


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


@dataclass(frozen=True)
class Prices:
    """What a hosted judge charges.

    Args:
        prompt: Currency units per million tokens sent.
        completion: Currency units per million tokens received.
    """

    prompt: float
    completion: float


@dataclass(frozen=True)
class Traffic:
    """What it took to get verdicts.

    Args:
        rounds: Questions there were; each comparison has two.
        cached: Questions whose verdict was known already.
        replies: Replies of the judge.
        unparseable: Replies without a verdict.
        retries: Requests that were sent again after a fault.
        seconds: Sum over the replies of the time from request to reply.
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received.
    """

    rounds: int = 0
    cached: int = 0
    replies: int = 0
    unparseable: int = 0
    retries: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class JudgeStatistics:
    """Collects until it is asked, then begins anew. Any thread may call it.

    Args:
        prices: Of the judge's tokens; no cost is reported without them.
    """

    prices: Prices | None = None
    _judged: list[Judged] = field(default_factory=list)
    _traffic: Traffic = Traffic()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def judged(self, judged: Sequence[Judged]) -> None:
        """Note what came of comparisons."""
        with self._lock:
            self._judged += judged

    def count(self, **more: float) -> None:
        """Add to the fields of :class:`Traffic`."""
        with self._lock:
            grown = {name: getattr(self._traffic, name) + value for name, value in more.items()}
            self._traffic = replace(self._traffic, **grown)

    def metrics(self) -> dict[str, float]:
        """Everything since the last call, by name; empty if nothing was compared."""
        with self._lock:
            judged, traffic = self._judged, self._traffic
            self._judged, self._traffic = [], Traffic()
        return {**verdict_metrics(judged), **self._traffic_metrics(traffic)} if judged else {}

    def _traffic_metrics(self, traffic: Traffic) -> dict[str, float]:
        metrics = {"cached": traffic.cached / max(traffic.rounds, 1), "retries": float(traffic.retries)}
        if traffic.replies:
            metrics |= {
                "unparseable": traffic.unparseable / traffic.replies,
                "seconds_per_reply": traffic.seconds / traffic.replies,
            }
        metrics |= {
            "prompt_tokens": float(traffic.prompt_tokens),
            "completion_tokens": float(traffic.completion_tokens),
        }
        if self.prices is not None:
            paid = traffic.prompt_tokens * self.prices.prompt + traffic.completion_tokens * self.prices.completion
            metrics["cost"] = paid / 1e6
        return metrics


def verdict_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    """Rates of failures, wins, ties and flips, and how much length pays.

    Args:
        judged: At least one comparison.

    Returns:
        Shares by name; ``length_slope`` is the slope of the least-squares line of the reward (1, 0.5, 0) over the
        difference in length, candidate minus reference, per 100 characters.
    """
    said = [(one, one.verdict) for one in judged]
    clear = [(one, verdict) for one, verdict in said if isinstance(verdict, Preference)]
    metrics = {"failed": sum(isinstance(verdict, JudgeUnavailable) for _, verdict in said) / len(said)}
    if not clear:
        return metrics
    rewards = [verdict.value for _, verdict in clear]
    longer = [(len(one.comparison.candidate) - len(one.comparison.reference)) / 100 for one, _ in clear]
    metrics |= {
        "win_rate": statistics.fmean(rewards),
        "tie_rate": rewards.count(Preference.TIE.value) / len(rewards),
        "flip_rate": sum(one.flipped for one, _ in clear) / len(clear),
    }
    if len(set(longer)) > 1:
        metrics["length_slope"] = statistics.linear_regression(longer, rewards).slope
    return metrics
