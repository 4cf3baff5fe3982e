"""A judge behind an OpenAI-compatible endpoint: rate limits, retries, and a cache of verdicts."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

import openai
from aiolimiter import AsyncLimiter
from anyio.from_thread import BlockingPortal, start_blocking_portal
from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import JudgeUnavailable
from omnithink_pl.judge.pairwise import JudgeStatistics, Letter, OrderedPair, PairwiseJudge, Prices, parse_verdict
from omnithink_pl.types import Message

if TYPE_CHECKING:
    from omnithink_pl.rewards.base import Awaits

REMINDER = (
    "Your reply does not end with a verdict. Reply with one line and nothing else: "
    "[[A]] if answer A is better, [[B]] if answer B is better, [[C]] if neither is."
)
_MISCONFIGURED = {401: "the key", 403: "the key's rights", 404: "base_url and model"}
_SHOWN = 200  # characters of a server's message

Verdicts: TypeAlias = dict[str, Letter | JudgeUnavailable]  # by the hash of a question


@dataclass(frozen=True)
class Endpoint:
    """Address and limits of a judge's endpoint.

    Args:
        base_url: Of the OpenAI-compatible API, such as ``http://localhost:8000/v1``; OpenAI's own if null.
        api_key_env: Name of the environment variable that holds the key; null where the server wants none. The key
            itself is never part of a config.
        concurrency: Requests in flight at most.
        requests_per_second: Requests started per second at most; null for no limit.
        timeout: Seconds for one request.
        attempts: Requests for one reply at most: after 408, 409, 429 and 5xx, time-outs, broken connections and
            broken replies it is sent again.
        longest_wait: Seconds between two attempts at most; the wait is drawn at random from a growing range, but is
            never shorter than the server's Retry-After.
    """

    base_url: str | None = None
    api_key_env: str | None = "OPENAI_API_KEY"
    concurrency: int = 16
    requests_per_second: float | None = None
    timeout: float = 60.0
    attempts: int = 8
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        for key in ("concurrency", "requests_per_second", "timeout", "attempts"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise BadInput(f"judge.endpoint.{key} is {value}; use more than 0")

    def key(self) -> str:
        """Return the key; ``BadInput`` if the environment variable is not set."""
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env, "")
        if not key:
            raise BadInput(
                f"judge.endpoint.api_key_env: the environment variable {self.api_key_env} is not set; "
                f"export it, or use null if the server wants no key"
            )
        return key


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
    """

    awaits: Awaits = "group"

    def __init__(
        self,
        model: str,
        endpoint: Endpoint = Endpoint(),
        prompt: str = "pairwise_v1",
        cache: str | None = "outputs/judge_cache.sqlite",
        max_tokens: int = 1024,
        reasks: int = 2,
        prices: Prices | None = None,
        conversation_prompt: str = "pairwise_turns_v1",
    ) -> None:
        super().__init__(prompt, conversation_prompt, prices)
        if max_tokens < 1 or reasks < 0:
            raise BadInput(f"judge: max_tokens is {max_tokens} and reasks {reasks}; use at least 1 and 0")
        self.model = model
        self.endpoint = endpoint
        self.max_tokens = max_tokens
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
        keys = [pair.key(self.model, self.prompt_for(pair)) for pair in pairs]
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

    def _request(self, missing: Mapping[str, OrderedPair]) -> Verdicts:
        with self._lock:
            if self._connection is None:
                client = ChatClient(self.endpoint, self.model, self.max_tokens, self.statistics)
                # One event loop in a daemon thread, so that the limits hold across calls and threads.
                portal = self._resources.enter_context(start_blocking_portal(name="judge"))
                self._resources.callback(portal.call, client.connections.close)
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
                        self._cache.put(key, letter, self.model, prompt.version)
                    return letter
                said: Message = {"role": "assistant", "content": reply}
                messages = [*messages, said, {"role": "user", "content": REMINDER}]
        except JudgeUnavailable as unavailable:
            return unavailable
        return JudgeUnavailable(f"no verdict in {self.reasks + 1} replies", "unparseable")


class _Fault(Exception):
    """A request that may succeed when it is sent again."""

    def __init__(self, detail: str, cause: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.cause = cause
        self.retry_after = retry_after


@final
class ChatClient:
    """Asks for chat completions at temperature 0. Belongs to the event loop that it is first used in."""

    def __init__(self, endpoint: Endpoint, model: str, max_tokens: int, statistics: JudgeStatistics) -> None:
        self._endpoint, self._model, self._max_tokens, self._statistics = endpoint, model, max_tokens, statistics
        self._key = endpoint.key()
        # The client's own retries know neither broken bodies nor a limit on concurrency.
        self.connections = openai.AsyncOpenAI(
            api_key=self._key, base_url=endpoint.base_url, timeout=endpoint.timeout, max_retries=0
        )
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Fault),
            stop=stop_after_attempt(endpoint.attempts),
            wait=partial(_wait, longest=endpoint.longest_wait),
            before_sleep=lambda state: statistics.count(retries=1),
            reraise=True,
        )
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        rate = endpoint.requests_per_second
        self._limiter = AsyncLimiter(max(1.0, rate), max(1.0, rate) / rate) if rate else None

    async def ask(self, messages: Sequence[Message]) -> str:
        """Return the model's reply to a chat; ``JudgeUnavailable`` if all attempts failed."""
        try:
            return await self._retrying(self._attempt, messages)
        except _Fault as fault:
            raise JudgeUnavailable(f"{fault}, {self._endpoint.attempts} attempts", fault.cause) from fault

    async def _attempt(self, messages: Sequence[Message]) -> str:
        """Send a request; sort what may happen into faults, refusals and mistakes of the configuration."""
        async with self._slots:
            if self._limiter is not None:
                await self._limiter.acquire()
            began = time.monotonic()
            chat: Any = [dict(message) for message in messages]
            try:
                # The client's time-out restarts with every byte; this one also ends a server that trickles.
                async with asyncio.timeout(self._endpoint.timeout):
                    reply = await self.connections.chat.completions.create(
                        model=self._model, messages=chat, temperature=0.0, max_tokens=self._max_tokens
                    )
            except (openai.APITimeoutError, TimeoutError) as error:
                raise _Fault(f"no reply within {self._endpoint.timeout:g} s", "timed out") from error
            except openai.APIStatusError as error:
                raise self._refusal(error) from error
            except openai.APIConnectionError as error:
                raise _Fault(f"connection failed ({error.__cause__ or error})"[:_SHOWN], "connection failed") from error
            except (openai.APIError, ValueError) as error:
                raise _Fault(f"broken reply ({type(error).__name__})", "broken reply") from error
            seconds = time.monotonic() - began
        text = _text(reply)
        self._statistics.count(seconds=seconds)
        if tokens := reply.usage:
            self._statistics.count(prompt_tokens=tokens.prompt_tokens, completion_tokens=tokens.completion_tokens)
        return text

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        status, said = error.status_code, str(error.message).replace(self._key, "***")[:_SHOWN]
        if status in _MISCONFIGURED:
            return BadInput(f"judge.endpoint: HTTP {status}; check {_MISCONFIGURED[status]}. The server says: {said}")
        if status in (408, 409, 429) or status >= 500:
            try:
                seconds = float(error.response.headers.get("retry-after", 0))
            except ValueError:  # a date: servers that rate-limit judges give seconds
                seconds = 0.0
            return _Fault(f"HTTP {status}", "rate limited" if status == 429 else "server error", seconds)
        return JudgeUnavailable(f"HTTP {status}. The server says: {said}", "request refused")


def _wait(state: RetryCallState, longest: float) -> float:
    """Draw a wait from a range that doubles, so that requests that failed together do not return together."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.retry_after if isinstance(fault, _Fault) else 0.0
    # Not the global generator: how busy a server is must not change what else is drawn from it.
    return min(longest, max(random.SystemRandom().uniform(0.0, 0.5 * 2.0**state.attempt_number), asked))


def _text(reply: ChatCompletion) -> str:
    """Return the message of a reply that may have any shape: servers are only nearly compatible."""
    choices = getattr(reply, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    text = getattr(message, "content", None)
    if not isinstance(text, str):
        raise _Fault("a reply without a message", "broken reply")
    return text


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
        row = (key, verdict, judge, prompt, time.time())
        self._database.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file; it is opened again when used again."""
        if "_database" in self.__dict__:
            self._database.close()
            del self._database

    @cached_property
    def _database(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: every statement is a transaction of its own, whatever thread it comes from.
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            # Readers do not wait for the writer, and a kill loses at most the last verdicts, never the file.
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL, "
                "judge TEXT NOT NULL, prompt TEXT NOT NULL, given REAL NOT NULL)"
            )
        except (OSError, sqlite3.DatabaseError) as error:
            raise BadInput(
                f"judge.cache: cannot open {self.path}: {error}; choose another file, or null for none"
            ) from error
        return database
