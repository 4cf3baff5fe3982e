"""A pool of worker processes for work that may hang, eat memory or crash in native code.

Nothing of such work happens in the training process, and a worker that misses its deadline is
killed and replaced.
"""

from __future__ import annotations

import json
import os
import selectors
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox.worker import Ticket, Worker


class Lost(StrEnum):
    """Why a job has no reply, on its second attempt."""

    TIMEOUT = "timed out"
    DIED = "worker died"


@final
class WorkerPool:
    """Runs jobs in worker processes that answer a line of JSON with a line of JSON.

    Workers start with the first jobs and outlive neither :meth:`close` nor this process. To be
    used from one thread.

    Args:
        command: Starts a worker; see :class:`Worker`.
        size: Workers at most.
        environment: Of the workers; ``None`` hands down this process's own.
        startup: Seconds that a worker may take to become ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        size: int,
        environment: Mapping[str, str] | None = None,
        startup: float = 120.0,
    ) -> None:
        if size < 1:
            raise BadInput(f"workers: {size} is too few; use 1 or more")
        self._command, self._size, self._environment, self._startup = command, size, environment, startup
        self._workers: list[Worker] = []
        self._at_exit: weakref.finalize[Any, Any] | None = None

    def map(self, jobs: Sequence[Mapping[str, Any]], limit: float) -> list[Any | Lost]:
        """One reply per job, in order.

        A job whose worker dies or misses the deadline is tried once more, on a fresh worker.

        Args:
            jobs: What to send, as JSON can hold it.
            limit: Seconds for each attempt.

        Raises:
            RuntimeError: If a worker does not start; carries the end of its standard error.
        """
        tickets = deque(Ticket(i, 1, json.dumps(job).encode() + b"\n") for i, job in enumerate(jobs))
        replies: dict[int, Any | Lost] = {}
        try:
            while len(replies) < len(jobs):
                self._assign(tickets, limit)
                for ticket, reply in self._finished():
                    if isinstance(reply, Lost) and ticket.attempt == 1:
                        tickets.appendleft(Ticket(ticket.index, 2, ticket.line))
                    else:
                        replies[ticket.index] = reply
        finally:
            for worker in self._busy():  # interrupted: its late reply must not answer another job
                self._discard(worker)
        return [replies[i] for i in range(len(jobs))]

    def close(self) -> None:
        """End all workers. Safe to call twice."""
        for worker in list(self._workers):
            self._discard(worker)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.ticket is not None]

    def _assign(self, tickets: deque[Ticket], limit: float) -> None:
        """Hand out jobs while there are workers; second attempts go to fresh ones."""
        while tickets:
            idle = (worker for worker in self._workers if worker.ticket is None and tickets[0].attempt == 1)
            worker = next(idle, None)
            if worker is None and len(self._workers) < self._size:
                worker = self._start()
            if worker is None:
                return
            worker.assign(tickets.popleft(), limit)

    def _start(self) -> Worker:
        worker = Worker(self._command, self._environment, self._startup)
        self._workers.append(worker)
        if self._at_exit is None:
            self._at_exit = weakref.finalize(self, _stop_all, self._workers, os.getpid())
        return worker

    def _discard(self, worker: Worker) -> str:
        self._workers.remove(worker)
        return worker.stop()

    def _finished(self) -> Iterator[tuple[Ticket, Any | Lost]]:
        """Wait until something happens; yield the jobs that ended, their workers idle or gone."""
        for worker in self._wait():
            ticket = worker.ticket
            assert ticket is not None
            try:
                line = worker.receive()
            except EOFError:
                self._lose(worker)
                yield ticket, Lost.DIED
                continue
            if line is not None:
                worker.ticket = None
                yield ticket, json.loads(line)
        for worker in self._busy():
            if time.monotonic() > worker.deadline and worker.ticket is not None:
                ticket = worker.ticket
                self._lose(worker)
                yield ticket, Lost.TIMEOUT

    def _wait(self) -> list[Worker]:
        """Workers with something to read; those that can take more of their job are given it."""
        readable = []
        with selectors.DefaultSelector() as selector:
            for worker in self._busy():
                selector.register(worker.stdout, selectors.EVENT_READ, (worker, Worker.receive))
                if worker.unsent:
                    selector.register(worker.stdin, selectors.EVENT_WRITE, (worker, Worker.send))
            patience = min(worker.deadline for worker in self._busy()) - time.monotonic()
            for key, _ in selector.select(max(0.0, patience)):
                worker, act = key.data
                if act is Worker.send:
                    worker.send()
                else:
                    readable.append(worker)
        return readable

    def _lose(self, worker: Worker) -> None:
        ready = worker.ready
        stderr = self._discard(worker)
        if not ready:
            raise RuntimeError(f"a worker did not start: {' '.join(self._command)}\n{stderr or 'no message'}")


def _stop_all(workers: list[Worker], owner: int) -> None:
    """At the end of the process, but not of a process forked from it."""
    if os.getpid() == owner:
        for worker in workers:
            worker.stop()
