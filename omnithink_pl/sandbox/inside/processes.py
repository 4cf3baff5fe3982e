"""``multiprocessing`` and process pools for programs, which may start no process: threads do their work.

Not covered: programs that rely on a process having memory of its own.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import multiprocessing.dummy
import threading
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Self

_SAME = (
    *("Pipe", "Queue", "JoinableQueue", "Lock", "RLock", "Semaphore", "BoundedSemaphore"),
    *("Event", "Condition", "Barrier", "current_process", "active_children"),
)


class Process(multiprocessing.dummy.Process):
    """A thread with what a process has besides."""

    pid = 0

    def terminate(self) -> None:
        """Do nothing: a thread ends by itself, or with the program."""

    close = kill = terminate


class ProcessPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """A pool of threads that takes a pool of processes' arguments."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> None:
        super().__init__(max_workers, "", initializer, initargs)


class AsyncResult:
    """What a pool has been asked to compute."""

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self._future = future
        self.get, self.ready = future.result, future.done

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is there."""
        concurrent.futures.wait([self._future], timeout)

    def successful(self) -> bool:
        """Return whether it was computed without an exception."""
        return self._future.exception() is None


class Pool:
    """A pool of threads, with the methods of a pool of processes."""

    def __init__(
        self, processes: int | None = None, initializer: Any = None, initargs: tuple[Any, ...] = (), *_: Any, **__: Any
    ) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(processes, "", initializer, initargs)
        # A call that collects what others compute must not take a thread from them.
        self._collectors = concurrent.futures.ThreadPoolExecutor(8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def apply_async(
        self, function: Any, args: Any = (), kwds: Any = None, callback: Any = None, error_callback: Any = None
    ) -> AsyncResult:
        """Begin a call."""
        return self._collected(self._threads.submit(function, *args, **(kwds or {})).result, callback, error_callback)

    def map_async(self, function: Any, items: Any, chunksize: Any = None, *callbacks: Any, **named: Any) -> AsyncResult:
        """Begin a call for each item."""
        futures = [self._threads.submit(function, item) for item in items]
        return self._collected(lambda: [future.result() for future in futures], *callbacks, **named)

    def starmap_async(self, function: Any, items: Any, *rest: Any, **named: Any) -> AsyncResult:
        """Begin a call for each tuple of arguments."""
        return self.map_async(lambda args: function(*args), items, *rest, **named)

    def apply(self, function: Any, args: Any = (), kwds: Any = None) -> Any:
        """Call a function."""
        return self.apply_async(function, args, kwds).get()

    def map(self, function: Any, items: Any, chunksize: Any = None) -> list[Any]:
        """Return a function of each item."""
        return self.map_async(function, items).get()

    def starmap(self, function: Any, items: Any, chunksize: Any = None) -> list[Any]:
        """Return a function of each tuple of arguments."""
        return self.starmap_async(function, items).get()

    def imap(self, function: Any, items: Any, chunksize: Any = 1) -> Iterator[Any]:
        """Yield a function of each item."""
        futures = [self._threads.submit(function, item) for item in items]
        return (future.result() for future in futures)

    imap_unordered = imap

    def close(self) -> None:
        """Accept no more calls."""

    def terminate(self) -> None:
        """End the threads when they are idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._collectors.shutdown(wait=False)

    def join(self) -> None:
        """Wait until all is computed."""
        self._threads.shutdown()

    def _collected(self, compute: Any, callback: Any = None, error_callback: Any = None) -> AsyncResult:
        def collect() -> Any:
            try:
                result = compute()
            except Exception as error:
                if error_callback is not None:
                    error_callback(error)
                raise
            if callback is not None:
                callback(result)
            return result

        return AsyncResult(self._collectors.submit(collect))


class Value:
    """A shared number; a format is accepted for it and not applied."""

    def __init__(self, kind: Any, value: Any = 0, *, lock: Any = True) -> None:
        self.value = value
        self._lock = lock if hasattr(lock, "acquire") else threading.RLock()

    def get_lock(self) -> Any:
        """Return the lock that guards it."""
        return self._lock


class Array(array):  # type: ignore[type-arg]
    """A shared array of numbers."""

    _lock: Any

    def __new__(cls, kind: str, content: Any, *, lock: Any = True) -> Array:
        """Return an array of this content, or of so many zeros."""
        made = super().__new__(cls, kind, [0] * content if isinstance(content, int) else content)
        made._lock = lock if hasattr(lock, "acquire") else threading.RLock()
        return made

    def get_lock(self) -> Any:
        """Return the lock that guards it."""
        return self._lock


class Manager:
    """What a manager of shared objects makes: the objects themselves."""

    dict, list, Namespace = dict, list, SimpleNamespace
    Value, Array = Value, Array
    Queue, JoinableQueue, Lock = multiprocessing.dummy.Queue, multiprocessing.dummy.JoinableQueue, threading.Lock
    RLock, Event, Semaphore = threading.RLock, threading.Event, threading.Semaphore

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Do nothing: there is no process to end."""


_get_context = multiprocessing.get_context


def _context(method: str | None = None) -> Any:
    """Return what makes processes; a fork by name wants the memory of this one, which no thread replaces, and fails."""
    return _get_context(method) if method == "fork" else multiprocessing


def use_threads() -> None:
    """Have the modules that start processes start threads, in this process and those forked from it."""
    replaced: dict[str, Any] = {name: getattr(multiprocessing.dummy, name) for name in _SAME}
    replaced |= {
        "Pool": Pool,
        "Manager": Manager,
        "Process": Process,
        "Value": Value,
        "Array": Array,
        "RawValue": Value,
        "RawArray": Array,
    }
    replaced |= {"SimpleQueue": multiprocessing.dummy.Queue, "get_context": _context}
    replaced |= {"set_start_method": lambda *_, **__: None, "freeze_support": lambda: None}
    multiprocessing.__dict__.update(replaced)
    for module in (concurrent.futures, concurrent.futures.process):
        module.__dict__.update(ProcessPoolExecutor=ProcessPoolExecutor)
