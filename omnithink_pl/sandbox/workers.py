"""One worker process that answers one line of JSON with one line of JSON."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, final

from omnithink_pl.errors import BadInput


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job on its way: its place in the batch, which attempt this is, and the line to send."""

    index: int
    attempt: int
    line: bytes


@final
class Worker:
    """A process, its pipes, and the job it is busy with.

    It lives in a session of its own, so that a Ctrl-C in the terminal does not reach it, and is
    expected to end when its standard input does. Pipes are never waited for: a worker that reads
    nothing cannot block the training process.

    Args:
        command: What to run; it announces with a first line that it is ready.
        environment: Of the process; ``None`` hands down this process's own.
        startup: Seconds it may take to become ready.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None, startup: float) -> None:
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        self.stdin, self.stdout = _unblocked(self._process.stdin), _unblocked(self._process.stdout)
        self.startup = startup
        self.ready = False
        self.ticket: Ticket | None = None
        self.deadline = 0.0
        self.unsent = b""
        self._limit = 0.0
        self._received = bytearray()

    def assign(self, ticket: Ticket, limit: float) -> None:
        """Give it a job.

        Args:
            ticket: The job.
            limit: Seconds for it, counted from when the worker is ready.
        """
        self.ticket, self.unsent, self._limit = ticket, ticket.line, limit
        self.deadline = time.monotonic() + (limit if self.ready else self.startup)

    def send(self) -> None:
        """Write as much of the job as the pipe takes now."""
        try:
            self.unsent = self.unsent[os.write(self.stdin, self.unsent) :]
        except BrokenPipeError:
            self.unsent = b""  # it is dead, as reading will show

    def receive(self) -> bytes | None:
        """The reply if it is complete.

        Raises:
            EOFError: If the process has ended.
        """
        chunk = os.read(self.stdout, 1 << 20)
        if not chunk:
            raise EOFError
        self._received += chunk
        if not self.ready and b"\n" in chunk:
            self.ready = True
            self.deadline = time.monotonic() + self._limit
            del self._received[: self._received.index(b"\n") + 1]  # the reply may have come along with it
        if not self.ready or not self._received.endswith(b"\n"):
            return None
        line = bytes(self._received)
        self._received.clear()
        return line

    def stop(self) -> str:
        """Kill the process and everything in its group; returns the end of its standard error."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 2000))
            return stderr.read().decode(errors="replace").strip()


def _unblocked(pipe: IO[bytes] | None) -> int:
    assert pipe is not None
    os.set_blocking(pipe.fileno(), False)
    return pipe.fileno()


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
