"""Child processes reached over a socket, and a pool of workers that are killed and replaced at a deadline.

They are not sealed; what they run must be ours. Children of ``multiprocessing`` would import the main script and torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, final

from omnithink_pl.errors import BadInput, RewardFailure

_STARTUP = 120.0  # seconds until a worker is ready
_STDERR_BYTES = 2000


class Lost(StrEnum):
    """Reason why a job has no reply, after its second attempt."""

    TIMEOUT = "timed out"
    DIED = "worker died"


@final
class WorkerPool:
    """Runs jobs in worker processes: one line of JSON to standard input, one line of JSON from standard output.

    Workers start with the first jobs and outlive neither :meth:`close` nor this process. To be used from one thread.

    Args:
        command: Starts a worker, which prints a first line when it is ready and exits when its input ends.
        size: Workers at most.
    """

    def __init__(self, command: Sequence[str], size: int) -> None:
        if size < 1:
            raise BadInput(f"workers: {size} is too few; use 1 or more")
        self._command, self._size = command, size
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        weakref.finalize(self, stop_all, self._workers, os.getpid())

    def map(self, jobs: Sequence[Mapping[str, Any]], limit: float) -> list[Any | Lost]:
        """Return one reply per job, in order.

        A job whose worker dies, starts in vain or exceeds the limit (seconds) is tried once more, on a new worker.

        Raises:
            RewardFailure: If two workers in turn do not start; has the end of the standard error.
        """
        cancelled = threading.Event()
        with ThreadPoolExecutor(self._size) as threads:
            try:
                return list(threads.map(lambda job: self._run(job, limit, cancelled), jobs))
            except BaseException:  # interrupted: no late reply may answer another job
                threads.shutdown(wait=False, cancel_futures=True)
                with self._lock:
                    cancelled.set()
                    for worker in set(self._workers) - set(self._idle):
                        worker.kill()
                raise

    def close(self) -> None:
        """End all workers. Safe to call twice."""
        for worker in list(self._workers):
            self._discard(worker)

    def _run(self, job: Mapping[str, Any], limit: float, cancelled: threading.Event) -> Any | Lost:
        line, lost = json.dumps(job).encode() + b"\n", Lost.DIED
        for attempt in range(2):
            if not (worker := self._acquire(attempt > 0, cancelled)):
                break
            try:
                reply = worker.ask(line, limit)
            except (EOFError, ConnectionError, TimeoutError) as error:
                stderr = self._discard(worker)
                if not worker.ready and attempt:
                    raise RewardFailure(
                        f"a worker did not start: {' '.join(self._command)}\n{stderr or 'it was killed'}\nMend that, "
                        f"and continue with --ckpt_path last"
                    ) from error
                lost = Lost.TIMEOUT if isinstance(error, TimeoutError) else Lost.DIED
                continue
            self._idle.append(worker)
            return json.loads(reply)
        return lost

    def _acquire(self, new: bool, cancelled: threading.Event) -> _Worker | None:
        """Return an idle or a new worker; ``None`` once the jobs are cancelled."""
        with self._lock:
            if cancelled.is_set():
                return None
            if self._idle and not new:
                return self._idle.pop()
            worker = _Worker(self._command)
            self._workers.append(worker)
            return worker

    def _discard(self, worker: _Worker) -> str:
        with self._lock:
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
        return worker.stop()


@final
class _Worker:
    """A worker process and the bytes of its unfinished reply."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = ChildProcess(command, output_to_socket=True)
        self.kill, self.stop = self._process.kill, self._process.stop
        self._received = b""
        self.ready = False

    def ask(self, line: bytes, limit: float) -> bytes:
        """Send a job and return the line of its reply, within the limit (seconds) from when the worker is ready."""
        if not self.ready:
            self._read_line(time.monotonic() + _STARTUP)
            self.ready = True
        deadline = time.monotonic() + limit
        self._process.socket.settimeout(limit)
        self._process.socket.sendall(line)
        return self._read_line(deadline)

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._received:
            self._process.socket.settimeout(max(0.001, deadline - time.monotonic()))
            if not (chunk := self._process.socket.recv(1 << 20)):
                raise EOFError
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


@final
class ChildProcess:
    """A process whose standard input is a socket to this one; it has to exit when the socket closes.

    That happens however this process ends. Standard output goes to the socket or is discarded.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, output_to_socket: bool = False
    ) -> None:
        self.socket, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno() if output_to_socket else subprocess.DEVNULL,
                stderr=self._stderr,
                env=environment,
                start_new_session=True,  # so that a Ctrl-C in the terminal does not reach it
            )
        self.pid = self._process.pid

    def kill(self) -> None:
        """Kill the process and its group, from any thread; one that waits for the socket wakes up."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ends at this moment
                os.killpg(self.pid, signal.SIGKILL)

    def stop(self, grace: float = 0.0) -> str:
        """End the process and its group and return the end of its standard error. Safe to call twice."""
        self.socket.close()  # so it has the seconds of ``grace`` to exit by itself
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        if self._stderr.closed:
            return ""
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
            return stderr.read().decode(errors="replace").strip()


def stop_all(processes: Iterable[Any], owner: int) -> None:
    """Stop everything that has a ``stop``, at the end of the process that owns it, but not of one forked from it."""
    if os.getpid() == owner:
        for process in processes:
            process.stop()
