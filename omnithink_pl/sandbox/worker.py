"""One worker process that answers one line of JSON with one line of JSON."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, final


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
