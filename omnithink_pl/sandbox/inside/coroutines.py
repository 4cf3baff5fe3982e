"""Coroutines of one end that run for the other, in steps, so that several run side by side as in one event loop."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, final


@final
class Coroutines:
    """The event loop of one end: the running one, or one of its own that runs only while a step is requested."""

    ACTIONS = frozenset({"start", "step", "cancel", "result"})

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, target: Any, method: str, *args: Any) -> asyncio.Future[Any]:
        """Return a new task that awaits a target, or what its method of that action's name returns."""
        loop = self._current()
        if method == "await":
            return asyncio.ensure_future(target, loop=loop)
        return loop.create_task(_call(target, method, *args))

    def step(self, task: asyncio.Future[Any]) -> bool:
        """Run what is ready, and return whether a task has ended."""
        loop = self._current()
        if not loop.is_running() and not task.done():
            loop.call_soon(loop.stop)
            loop.run_forever()
        return task.done()

    def cancel(self, task: asyncio.Future[Any]) -> bool:
        """Cancel a task."""
        return task.cancel()

    def result(self, task: asyncio.Future[Any]) -> Any:
        """Return the result of a task that has ended, or raise what it raised."""
        return task.result()

    def _current(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            return self._loop


async def _call(target: Any, method: str, *args: Any) -> Any:
    if method == "aexit":
        (error,) = args
        args = (type(error) if error is not None else None, error, error and error.__traceback__)
    result = getattr(type(target), f"__{method}__")(target, *args)
    return await result if inspect.isawaitable(result) else result
