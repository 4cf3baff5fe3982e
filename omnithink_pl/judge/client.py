"""Chat completions of an OpenAI-compatible endpoint, whose replies may have any shape and size.

The requests are made by an HTTP client and not by a library for one vendor's API: that one reads a reply whole,
whatever its size, follows redirects, and assumes the reply's shape. Here a reply is read up to a limit and nothing in
it is taken for granted; what is wrong with it becomes one of a few causes, never an exception of another kind. No text
that leaves this file holds the key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, final
from urllib.parse import urlsplit

import httpx2
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import JudgeUnavailable

if TYPE_CHECKING:
    from omnithink_pl.judge.pairwise import JudgeStatistics
    from omnithink_pl.types import Message

OPENAI = "https://api.openai.com/v1"
LARGEST_REPLY = 2 * 2**20  # bytes that are read of a reply; a verdict has a few thousand
_MOST_TOKENS = 10_000_000  # of one request; what a server reports beyond it is no count
_MISCONFIGURED = {401: "the key", 403: "the key's rights", 404: "base_url and model"}
_SHOWN = 200  # characters of a server's message
_BROKEN = "broken reply"


@dataclass(frozen=True)
class Endpoint:
    """Address and limits of a judge's endpoint.

    Args:
        base_url: Of the OpenAI-compatible API, such as ``http://localhost:8000/v1``; OpenAI's own if null. Redirects
            are refused: they would take the key elsewhere.
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
        _ = self.url  # refused before the configuration is stored
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env or "none"):
            raise BadInput(  # not repeated: it may be the key
                "judge.endpoint.api_key_env is no name of an environment variable; export the key under a name such as "
                "OPENAI_API_KEY, and give that name"
            )

    @property
    def url(self) -> httpx2.URL:
        """Where chats are sent; ``BadInput`` if ``base_url`` is no address, or has a secret in it."""
        try:
            parts = urlsplit(self.base_url or OPENAI)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
            # Whatever stands in base_url is stored with the run's configuration. So it is not repeated here either.
            if usable and not (parts.username or parts.password or parts.query or parts.fragment):
                return httpx2.URL(f"{parts.geturl().rstrip('/')}/chat/completions")
        except (ValueError, httpx2.InvalidURL):  # an impossible port or host
            pass
        raise BadInput(
            "judge.endpoint.base_url: use http:// or https://, a host and a path, such as http://localhost:8000/v1, "
            "without user, password and query; the key belongs into the environment variable that api_key_env names"
        )

    def key(self) -> str | None:
        """Return the key, ``None`` where the server wants none; ``BadInput`` if the variable holds no key."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()  # a key that was read from a file ends its line
        if not key:
            raise BadInput(
                f"judge.endpoint.api_key_env: the environment variable {self.api_key_env} is not set; "
                f"export it, or use null if the server wants no key"
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise BadInput(
                f"judge.endpoint.api_key_env: the environment variable {self.api_key_env} holds white space or other "
                f"characters that no key has; export the key alone"
            )
        return key


class _Fault(Exception):
    """A request that may succeed when it is sent again."""

    def __init__(self, detail: str, cause: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.cause = cause
        self.retry_after = retry_after


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    raw: bytes


@final
class ChatClient:
    """Asks for chat completions. Belongs to the event loop that it is first used in.

    Args:
        endpoint: Where to ask.
        request: What every request has besides its messages.
        statistics: Counts retries, seconds and tokens.
    """

    def __init__(self, endpoint: Endpoint, request: Mapping[str, Any], statistics: JudgeStatistics) -> None:
        self._endpoint, self._request, self._statistics = endpoint, request, statistics
        self._url, self._key = endpoint.url, endpoint.key()
        # Its debug messages have the headers of replies, where a server may repeat the key.
        logging.getLogger("httpcore2").setLevel(logging.INFO)
        # Compressed replies are not asked for: a few bytes of one can stand for gigabytes.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=endpoint.concurrency)
        self.connections = httpx2.AsyncClient(headers=headers, timeout=endpoint.timeout, limits=limits)
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
        """Return the model's reply to a chat.

        Raises:
            JudgeUnavailable: If it is refused, or all attempts failed.
            BadInput: If key, address or model are wrong.
        """
        content = json.dumps({**self._request, "messages": [dict(message) for message in messages]}).encode()
        try:
            return await self._retrying(self._attempt, content)
        except _Fault as fault:
            raise JudgeUnavailable(f"{fault}, {self._endpoint.attempts} attempts", fault.cause) from fault

    async def _attempt(self, content: bytes) -> str:
        """Send a request; sort what may happen into faults, refusals and mistakes of the configuration."""
        async with self._slots:
            if self._limiter is not None:
                await self._limiter.acquire()
            began = time.monotonic()
            reply = await self._send(content)
            seconds = time.monotonic() - began
        if not 200 <= reply.status < 300:
            raise self._refusal(reply)
        body = _parsed(reply.raw)
        text = _text(body)
        usage = {name: _tokens(body, name) for name in ("prompt_tokens", "completion_tokens")}
        self._statistics.count(seconds=seconds, **usage)
        return text

    async def _send(self, content: bytes) -> _Reply:
        try:
            # The client's time-out restarts with every byte; this one also ends a server that trickles.
            async with (
                asyncio.timeout(self._endpoint.timeout),
                self.connections.stream("POST", self._url, content=content) as response,
            ):
                return _Reply(response.status_code, response.headers, await _read(response))
        except (httpx2.TimeoutException, TimeoutError):
            fault = _Fault(f"no reply within {self._endpoint.timeout:g} s", "timed out")
        except (httpx2.HTTPError, OSError) as error:
            fault = _Fault(f"connection failed ({self._safe(str(error) or type(error).__name__)})", "connection failed")
        raise fault  # not inside `except`: the client's exceptions hold the request, and it the key

    def _refusal(self, reply: _Reply) -> Exception:
        status, said = reply.status, self._safe(_message(reply.raw))
        if status in _MISCONFIGURED:
            return BadInput(f"judge.endpoint: HTTP {status}; check {_MISCONFIGURED[status]}. The server says: {said}")
        if status in (408, 409, 429) or status >= 500:
            try:
                seconds = float(reply.headers.get("retry-after", 0))
            except ValueError:  # a date: servers that rate-limit judges give seconds
                seconds = 0.0
            return _Fault(f"HTTP {status}", "rate limited" if status == 429 else "server error", seconds)
        if 300 <= status < 400:
            where = self._safe(reply.headers.get("location", "nowhere"))
            return JudgeUnavailable(f"HTTP {status} redirects to {where}; give base_url its real address", "redirected")
        return JudgeUnavailable(f"HTTP {status}. The server says: {said}", "request refused")

    def _safe(self, said: str) -> str:
        """Return the beginning of a foreign text as one printable line without the key."""
        text = said.replace(self._key, "***") if self._key else said
        return "".join(char if char.isprintable() else " " for char in text[: 10 * _SHOWN]).strip()[:_SHOWN]


async def _read(response: httpx2.Response) -> bytes:
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > LARGEST_REPLY:
            raise _Fault(f"a reply of more than {LARGEST_REPLY >> 20} MiB", _BROKEN)
    return bytes(raw)


def _wait(state: RetryCallState, longest: float) -> float:
    """Draw a wait from a range that doubles, so that requests that failed together do not return together."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.retry_after if isinstance(fault, _Fault) else 0.0
    # Not the global generator: how busy a server is must not change what else is drawn from it.
    return min(longest, max(random.SystemRandom().uniform(0.0, 0.5 * 2.0**state.attempt_number), asked))


def _parsed(raw: bytes) -> Any:
    """Return a JSON value, ``None`` for what is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # no JSON, no text, or too deep; the error would hold all of it
        return None


def _text(body: Any) -> str:
    """Return the message of a reply; a fault where it has none, as when a model has thought up to its limit."""
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
    except (LookupError, TypeError):
        raise _Fault("a reply without a message, or no JSON", _BROKEN) from None
    if not isinstance(text, str):
        cut = choice.get("finish_reason") == "length"
        raise _Fault(f"a message without text{', cut at its limit: raise max_tokens' if cut else ''}", _BROKEN)
    return text


def _tokens(body: Mapping[str, Any], name: str) -> int:
    """Return a count of the reply's usage, 0 where it is no count."""
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count <= _MOST_TOKENS else 0


def _message(raw: bytes) -> str:
    """Return what an error says: OpenAI's ``error.message``, or its text."""
    try:
        said = _parsed(raw)["error"]["message"]
    except (LookupError, TypeError):
        said = None
    return said if isinstance(said, str) else raw.decode(errors="replace")
