"""A judge behind an OpenAI-compatible endpoint, and its cache of verdicts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from anyio.from_thread import BlockingPortal, start_blocking_portal

from omnithink_pl.errors import BadInput
from omnithink_pl.exclusive import make_once
from omnithink_pl.judge.base import JudgeUnavailable
from omnithink_pl.judge.client import ChatClient, Endpoint
from omnithink_pl.judge.pairwise import Letter, OrderedPair, PairwiseJudge, Prices, parse_verdict
from omnithink_pl.redaction import redact
from omnithink_pl.types import Message

if TYPE_CHECKING:
    from omnithink_pl.rewards.base import Awaits

REMINDER = (
    "Your reply does not end with a verdict. Reply with one line and nothing else: "
    "[[A]] if answer A is better, [[B]] if answer B is better, [[C]] if neither is."
)
_OURS = {"model", "messages", "stream", "n"}  # of a request: one whole reply is read

Verdicts: TypeAlias = dict[str, Letter | JudgeUnavailable]  # by the hash of a question


@final
class OpenAIJudge(PairwiseJudge):
    """Asks a model which answer is better, in both orders; a disagreement is a tie (Zheng et al. 2023, MT-Bench).

    Every verdict is cached, so that a question is paid for once and a resumed run gets the same verdicts. Where there
    is no verdict after all attempts the judge is *unavailable*, and the reward failed, not 0.

    Args:
        model: Name of the model at the endpoint.
        endpoint: Address and limits of the endpoint.
        prompt: Version of a prompt of this package, or the path of another.
        cache: SQLite file of verdicts; null for none. Delete it if the model behind the name has changed.
        max_tokens: Longest reply.
        reasks: How often a reply without a verdict is answered with a reminder.
        prices: Of the tokens, to log what the judge costs.
        conversation_prompt: As ``prompt``, for conversations of more than one turn.
        parameters: Further parameters of a request; null takes one out. Reasoning models take no temperature, and
            ``{max_completion_tokens: 4096, max_tokens: null, temperature: null}``.
    """

    awaits: Awaits = "group"

    def __init__(
        self,
        model: str,
        endpoint: Endpoint = Endpoint(),  # noqa: B008  (frozen)
        prompt: str = "pairwise_v1",
        cache: str | None = "outputs/judge_cache.sqlite",
        max_tokens: int = 1024,
        reasks: int = 2,
        prices: Prices | None = None,
        conversation_prompt: str = "pairwise_turns_v1",
        parameters: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(prompt, conversation_prompt, prices)
        if max_tokens < 1 or reasks < 0:
            raise BadInput(f"judge: max_tokens is {max_tokens} and reasks {reasks}; use at least 1 and 0")
        self.model = model
        self.endpoint = endpoint
        self.max_tokens = max_tokens
        self.parameters = _checked(parameters or {})
        self.reasks = reasks
        self._cache = None if cache is None else VerdictCache(cache)
        self._lock = threading.Lock()
        self._connection: tuple[BlockingPortal, ChatClient] | None = None
        self._running: set[Future[Verdicts]] = set()
        self._resources = ExitStack()

    def ask(self, pairs: list[OrderedPair]) -> list[Letter | JudgeUnavailable]:
        """Return one verdict, or why there is none, per distinct pair, in order.

        It raises ``CancelledError`` of ``concurrent.futures`` if the judge is closed meanwhile.
        """
        keys = [pair.key(self._identity, self.prompt_for(pair)) for pair in pairs]
        known: Mapping[str, Letter | JudgeUnavailable] = self._cache.get(keys) if self._cache else {}
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        self.statistics.count(pairs=len(pairs), cached=len(pairs) - len(missing))
        said = {**known, **(self._request(missing) if missing else {})}
        return [said[key] for key in keys]

    def close(self) -> None:
        """Cancel running requests and close the connections. Safe to call twice, and from any thread."""
        with self._lock:
            running, self._running = self._running, set()
            resources, self._resources = self._resources, ExitStack()
            self._connection = None
        for future in running:
            future.cancel()
        resources.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def _identity(self) -> str:
        """Whose verdicts these are: the model, and what it was asked with beside the defaults."""
        return f"{self.model} {json.dumps(self.parameters, sort_keys=True)}" if self.parameters else self.model

    def _request(self, missing: Mapping[str, OrderedPair]) -> Verdicts:
        with self._lock:
            if self._connection is None:
                request = {"model": self.model, "temperature": 0.0, "max_tokens": self.max_tokens} | self.parameters
                given = {name: value for name, value in request.items() if value is not None}
                client = ChatClient(self.endpoint, given, self.statistics)
                # One event loop in a daemon thread, so that the limits hold across calls and threads.
                portal = self._resources.enter_context(start_blocking_portal(name="judge"))
                self._resources.callback(portal.call, client.connections.aclose)
                self._connection = portal, client
            portal, client = self._connection
            future = portal.start_task_soon(self._verdicts, client, missing)
            self._running.add(future)
        try:
            return future.result()
        finally:
            future.cancel()  # if the wait was interrupted
            self._running.discard(future)

    async def _verdicts(self, client: ChatClient, missing: Mapping[str, OrderedPair]) -> Verdicts:
        asked = [asyncio.ensure_future(self._verdict(client, key, pair)) for key, pair in missing.items()]
        try:
            return dict(zip(missing, await asyncio.gather(*asked), strict=True))
        finally:  # of effect if one of them raised
            for task in asked:
                task.cancel()

    async def _verdict(self, client: ChatClient, key: str, pair: OrderedPair) -> Letter | JudgeUnavailable:
        prompt = self.prompt_for(pair)
        messages = pair.messages(prompt)
        try:
            for _ in range(self.reasks + 1):
                reply = await client.ask(messages)
                letter = parse_verdict(reply)
                self.statistics.count(replies=1, unparseable=letter is None)
                if letter is not None:
                    if self._cache is not None:
                        self._cache.put(key, letter, self._identity, prompt.version)
                    return letter
                said: Message = {"role": "assistant", "content": reply}
                messages = [*messages, said, {"role": "user", "content": REMINDER}]
        except JudgeUnavailable as unavailable:
            return unavailable
        return JudgeUnavailable(f"no verdict in {self.reasks + 1} replies", "unparseable")


def _checked(parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse parameters that are not the user's, or cannot be sent."""
    if refused := sorted(_OURS & parameters.keys()):
        raise BadInput(f"judge.parameters: {', '.join(refused)} cannot be set there; one whole reply is asked for")
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"judge.parameters: {error}; use numbers, texts, lists and dictionaries") from error
    return parameters


@final
class VerdictCache:
    """A table in an SQLite file, made when first used, which several threads and processes may use at once.

    It holds hashes of the questions and not their texts. Failures are never kept.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def get(self, keys: Sequence[str]) -> dict[str, Letter]:
        """Return the known verdicts, by key."""
        # One JSON array, because SQLite limits the number of variables in a statement.
        query = "SELECT key, verdict FROM verdicts WHERE key IN (SELECT value FROM json_each(?))"
        return dict(self._database.execute(query, [json.dumps(keys)]).fetchall())

    def put(self, key: str, verdict: Letter, judge: str, prompt: str) -> None:
        """Store a verdict; a known one is kept, so that a question never changes its answer."""
        row = (key, verdict, redact(judge), prompt, time.time())  # its request's parameters may hold a key
        self._database.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file; it is opened again when used again."""
        if "_database" in self.__dict__:
            self._database.close()
            del self._database

    @cached_property
    def _database(self) -> sqlite3.Connection:
        try:
            make_once(self.path, _make_table)
            # Autocommit: every statement is a transaction of its own, whatever thread it comes from.
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_TABLE)  # raises where the file is no database; a table that is there stays
        except (OSError, sqlite3.DatabaseError) as error:
            raise BadInput(
                f"judge.cache: cannot open {self.path}: {error}; choose another file, or null for none"
            ) from error
        return database


_TABLE = (
    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL, "
    "judge TEXT NOT NULL, prompt TEXT NOT NULL, given REAL NOT NULL)"
)


def _make_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        # Kept in the file. Readers do not wait for the writer, and a kill loses at most the last verdicts, never the
        # file. This statement alone does not wait for others: it fails at once where two processes make the file.
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(_TABLE)
