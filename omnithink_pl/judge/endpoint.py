"""An event loop in a thread of its own, for asynchronous clients behind synchronous calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.judge.base import (
    REMINDER,
    Comparison,
    JudgeUnavailable,
    PairwisePrompts,
    Preference,
    Round,
    judge_both_orders,
    parse_verdict,
)
from omnithink_pl.judge.cache import JudgeStatistics, Prices, VerdictCache
from omnithink_pl.judge.client import ChatClient, Endpoint

if TYPE_CHECKING:
    from omnithink_pl.judge.base import Letter
    from omnithink_pl.rewards.base import Awaits


T = TypeVar("T")
_PATIENCE = 2.0


@final
class LoopThread:
    """Runs coroutines; they share one loop, so that their limits hold across calls and threads.

    The thread starts with the first coroutine and keeps no process alive.

    Args:
        on_close: Awaited in the loop at its end, when nothing else runs in it any more.
    """

    def __init__(self, on_close: Callable[[], Awaitable[None]]) -> None:
        self._on_close = on_close
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine's result; it is cancelled when the wait is interrupted.

        Raises:
            concurrent.futures.CancelledError: If the loop is closed meanwhile.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        finally:
            future.cancel()  # of no effect on one that is done

    def close(self) -> None:
        """Cancel what is running and end the thread. Safe to call twice, and from any thread."""
        with self._lock:
            thread, loop, stop = self._thread, self._loop, self._stop
            self._thread = self._loop = self._stop = None
        if thread is None or loop is None or stop is None:
            return
        loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._serve(ready)), name="judge", daemon=True
                )
                self._thread.start()
                ready.wait()
            assert self._loop is not None
            return self._loop

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        stop = self._stop
        ready.set()
        await stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._on_close()


@final
class OpenAIJudge:
    """Asks a model which answer is better, in both orders; a disagreement is a tie (Zheng et al. 2023, MT-Bench).

    Every verdict is kept, so that a question is paid for once and a resumed run meets the same judge. What
    still has no verdict after all attempts is *unavailable*, and its reward failed, not 0.

    Args:
        model: Name of the model at the endpoint.
        endpoint: Where the judge is asked, and how hard.
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
        endpoint: Endpoint = Endpoint(),  # noqa: B008  (frozen)
        prompt: str = "pairwise_v1",
        cache: str | None = "outputs/judge_cache.sqlite",
        max_tokens: int = 1024,
        reasks: int = 2,
        prices: Prices | None = None,
        conversation_prompt: str = "pairwise_turns_v1",
    ) -> None:
        if max_tokens < 1 or reasks < 0:
            raise BadInput(f"judge: max_tokens is {max_tokens} and reasks {reasks}; use at least 1 and 0")
        self.model = model
        self.endpoint = endpoint
        self.prompts = PairwisePrompts.load(prompt, conversation_prompt)
        self.max_tokens = max_tokens
        self.reasks = reasks
        self._cache = None if cache is None else VerdictCache(cache)
        self._statistics = JudgeStatistics(prices)
        self._client: ChatClient | None = None
        self._loop = LoopThread(self._disconnect)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | JudgeUnavailable]:
        """One preference, or why there is none, per comparison, in order.

        Raises:
            BadInput: If the key is missing, or the endpoint refuses all requests.
        """
        judged = judge_both_orders(comparisons, self._ask)
        self._statistics.judged(judged)
        return [one.verdict for one in judged]

    def metrics(self) -> dict[str, float]:
        """Rates, latency, tokens and cost since the last call."""
        return self._statistics.metrics()

    def close(self) -> None:
        """Cancel what is running and close the connections. Safe to call twice, and from any thread."""
        self._loop.close()
        if self._cache is not None:
            self._cache.close()

    def _ask(self, rounds: list[Round]) -> list[Letter | JudgeUnavailable]:
        keys = [one.key(self.model, self.prompts.of(one.comparison.turns)) for one in rounds]
        known: dict[str, Letter] = {} if self._cache is None else self._cache.get(keys)
        missing = {key: one for key, one in zip(keys, rounds, strict=True) if key not in known}
        self._statistics.count(rounds=len(rounds), cached=len(rounds) - len(missing))
        said = self._loop.run(self._ask_all(missing)) if missing else {}
        return [known[key] if key in known else said[key] for key in keys]

    async def _ask_all(self, rounds: dict[str, Round]) -> dict[str, Letter | JudgeUnavailable]:
        client = self._connected()
        asked = [asyncio.ensure_future(self._verdict(client, key, one)) for key, one in rounds.items()]
        try:
            return dict(zip(rounds, await asyncio.gather(*asked), strict=True))
        finally:
            for task in asked:
                task.cancel()

    def _connected(self) -> ChatClient:
        if self._client is None:
            on_retry = partial(self._statistics.count, retries=1)
            self._client = ChatClient(self.endpoint, self.model, self.max_tokens, on_retry)
        return self._client

    async def _disconnect(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _verdict(self, client: ChatClient, key: str, one: Round) -> Letter | JudgeUnavailable:
        prompt = self.prompts.of(one.comparison.turns)
        messages = one.messages(prompt)
        try:
            for _ in range(self.reasks + 1):
                reply = await client.ask(messages)
                letter = parse_verdict(reply.text)
                self._statistics.count(
                    replies=1,
                    unparseable=letter is None,
                    seconds=reply.seconds,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                )
                if letter is not None:
                    if self._cache is not None:
                        self._cache.put(key, letter, self.model, prompt.version)
                    return letter
                messages = [
                    *messages,
                    {"role": "assistant", "content": reply.text},
                    {"role": "user", "content": REMINDER},
                ]
        except JudgeUnavailable as unavailable:
            return unavailable
        return JudgeUnavailable(f"no verdict in {self.reasks + 1} replies", "unparseable")
