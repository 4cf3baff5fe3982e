"""Requests to an OpenAI-compatible endpoint, with everything that may go wrong with one."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import openai
from aiolimiter import AsyncLimiter
from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import JudgeUnavailable

if TYPE_CHECKING:
    from omnithink_pl.types import Message


_MISCONFIGURED = {401: "the key", 403: "the key's rights", 404: "base_url and model"}
_SHOWN = 200


@dataclass(frozen=True)
class Endpoint:
    """Where a judge is asked, and how hard.

    Args:
        base_url: Of the OpenAI-compatible API, such as ``http://localhost:8000/v1``; OpenAI's own if null.
        api_key_env: Name of the environment variable that holds the key; null where the server wants none. The
            key itself is never part of a config.
        concurrency: Requests in flight at most.
        requests_per_second: Requests started per second at most; null for no limit.
        timeout: Seconds for one request.
        attempts: Requests for one reply at most: after 408, 409, 429 and 5xx, time-outs, broken connections and
            broken replies it is sent again.
        longest_wait: Seconds between two attempts at most; the wait is drawn at random from a growing range, but
            is never shorter than the server's Retry-After.
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
        """The key.

        Raises:
            BadInput: If the environment variable is not set.
        """
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env, "")
        if not key:
            raise BadInput(
                f"judge.endpoint.api_key_env: the environment variable {self.api_key_env} is not set; "
                f"export it, or use null if the server wants no key"
            )
        return key


@dataclass(frozen=True)
class Reply:
    """What the model said.

    Args:
        text: Its message.
        seconds: From the request that succeeded to its reply.
        prompt_tokens: Tokens sent, as the server counts them.
        completion_tokens: Tokens received.
    """

    text: str
    seconds: float
    prompt_tokens: int
    completion_tokens: int


class _Fault(Exception):
    """A request that may succeed when it is sent again."""

    def __init__(self, detail: str, cause: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.cause = cause
        self.retry_after = retry_after


@final
class ChatClient:
    """Asks for chat completions at temperature 0. Belongs to the event loop that it is first used in.

    Args:
        endpoint: Where, and how hard.
        model: Name of the model.
        max_tokens: Longest reply.
        on_retry: Called before a request is sent again.
    """

    def __init__(self, endpoint: Endpoint, model: str, max_tokens: int, on_retry: Callable[[], None]) -> None:
        self._endpoint, self._model, self._max_tokens = endpoint, model, max_tokens
        self._on_retry = on_retry
        self._key = endpoint.key()
        # Retries are ours: the client's own know neither broken bodies nor a limit on concurrency.
        self._client = openai.AsyncOpenAI(
            api_key=self._key, base_url=endpoint.base_url, timeout=endpoint.timeout, max_retries=0
        )
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        rate = endpoint.requests_per_second
        self._limiter = AsyncLimiter(max(1.0, rate), max(1.0, rate) / rate) if rate else None

    async def ask(self, messages: Sequence[Message]) -> Reply:
        """The model's reply to a chat.

        Raises:
            JudgeUnavailable: If all attempts failed, or the server refuses this very request.
            BadInput: If it refuses all requests: a wrong key, address or model.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Fault),
            stop=stop_after_attempt(self._endpoint.attempts),
            wait=_waiting(self._endpoint.longest_wait),
            before_sleep=lambda state: self._on_retry(),
            reraise=True,
        )
        try:
            return await retrying(self._once, messages)
        except _Fault as fault:
            raise JudgeUnavailable(f"{fault}, {self._endpoint.attempts} attempts", fault.cause) from fault

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _once(self, messages: Sequence[Message]) -> Reply:
        async with self._slot():
            began = time.monotonic()
            # The client's time-out restarts with every byte: a server that trickles is ended here.
            reply = await self._guarded(asyncio.wait_for(self._send(messages), self._endpoint.timeout))
            seconds = time.monotonic() - began
        usage = reply.usage
        return Reply(
            text=_text(reply),
            seconds=seconds,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
        )

    async def _send(self, messages: Sequence[Message]) -> ChatCompletion:
        chat: Any = [dict(message) for message in messages]
        return await self._client.chat.completions.create(
            model=self._model, messages=chat, temperature=0.0, max_tokens=self._max_tokens
        )

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        async with self._slots:
            if self._limiter is not None:
                await self._limiter.acquire()
            yield

    async def _guarded(self, sent: Awaitable[ChatCompletion]) -> ChatCompletion:
        """Sort what may happen into faults, refusals and mistakes of the configuration."""
        try:
            return await sent
        except (openai.APITimeoutError, TimeoutError) as error:
            raise _Fault(f"no reply within {self._endpoint.timeout:g} s", "timed out") from error
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.APIConnectionError as error:
            raise _Fault(f"connection failed ({error.__cause__ or error})"[:_SHOWN], "connection failed") from error
        except (openai.APIError, ValueError) as error:
            raise _Fault(f"broken reply ({type(error).__name__})", "broken reply") from error

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        status, said = error.status_code, str(error.message).replace(self._key, "***")[:_SHOWN]
        if status in _MISCONFIGURED:
            return BadInput(f"judge.endpoint: HTTP {status}; check {_MISCONFIGURED[status]}. The server says: {said}")
        if status in (408, 409, 429) or status >= 500:
            cause = "rate limited" if status == 429 else "server error"
            return _Fault(f"HTTP {status}", cause, _retry_after(error))
        return JudgeUnavailable(f"HTTP {status}. The server says: {said}", "request refused")


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        return float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date: servers that rate-limit judges give seconds
        return 0.0


def _waiting(longest: float) -> Callable[[RetryCallState], float]:
    """Random waits from a range that doubles, so that requests that failed together do not come back together."""
    # Not the global generator: how often a server is busy must not change what else is drawn from it.
    jitter = random.SystemRandom()

    def wait(state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        asked = fault.retry_after if isinstance(fault, _Fault) else 0.0
        return min(longest, max(jitter.uniform(0.0, 0.5 * 2.0**state.attempt_number), asked))

    return wait


def _text(reply: ChatCompletion) -> str:
    """The message of a reply that may have any shape: servers are only nearly compatible.

    Raises:
        _Fault: If there is none.
    """
    choices = getattr(reply, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    text = getattr(message, "content", None)
    if not isinstance(text, str):
        raise _Fault("a reply without a message", "broken reply")
    return text
