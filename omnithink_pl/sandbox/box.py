"""The files of one run: what it gets, and what it leaves behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, final

from omnithink_pl.sandbox.inside import wire
from omnithink_pl.sandbox.tiers import Launch

_STDERR_BYTES = 2000


@final
class Streams:
    """Files in memory that only the run itself and this process open.

    The process that forks a run passes them on unread. A run inherits that process's memory, and could
    otherwise find there what others before it were given and printed: the answers to the same tests.

    Args:
        source: Python source.
        stdin: What it reads.
        channel: A socket to the other side of a functional test.
    """

    def __init__(self, source: str, stdin: str = "", channel: socket.socket | None = None) -> None:
        self._stdin, self._source = _holding("stdin", stdin), _holding("source", source)
        self._stdout, self._stderr = os.memfd_create("stdout"), os.memfd_create("stderr")
        self._report = os.memfd_create("report")
        self._channel = self._stdout if channel is None else channel.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._stdin, self._stdout, self._stderr, self._report, self._source):
            os.close(file)

    @property
    def files(self) -> list[int]:
        """File descriptors in the order in which a run expects them."""
        return [self._stdin, self._stdout, self._stderr, self._channel, self._report, self._source]

    @property
    def printed(self) -> int:
        """Bytes on standard output."""
        return os.fstat(self._stdout).st_size

    @property
    def stdout(self) -> str:
        """All of standard output."""
        return os.pread(self._stdout, self.printed, 0).decode(errors="replace")

    @property
    def stderr(self) -> str:
        """The end of standard error."""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, _STDERR_BYTES, max(0, size - _STDERR_BYTES)).decode(errors="replace")

    @property
    def report(self) -> str:
        """What a judge reported."""
        return os.pread(self._report, os.fstat(self._report).st_size, 0).decode(errors="replace")


def _holding(name: str, text: str) -> int:
    file = os.memfd_create(name)
    rest = memoryview(text.encode(errors="surrogatepass"))
    while rest:
        rest = rest[os.write(file, rest) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


_STARTUP = 60.0  # seconds


class BoxLost(RuntimeError):
    """A box did not start, or has ended by itself."""


@final
class Box:
    """A started box.

    It lives in a session of its own, so that a Ctrl-C in the terminal does not reach it, and ends when this
    process does, however it does: its socket is closed then.

    Args:
        launch: How to start it.

    Raises:
        BoxLost: If it does not start; says why.
    """

    def __init__(self, launch: Launch) -> None:
        self._control, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                launch.command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        try:
            wire.send(self._control, launch.settings)
            self.reply(_STARTUP)
        except (BoxLost, OSError) as error:
            raise BoxLost(self.stop() or str(error)) from error

    def submit(self, job: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Begin a run; see :class:`omnithink_pl.sandbox.inside.zygote.Run`.

        Raises:
            BoxLost: If the box has ended.
        """
        try:
            self._control.settimeout(_STARTUP)
            wire.send(self._control, job, files)
        except OSError as error:
            raise BoxLost(str(error)) from error

    def reply(self, seconds: float) -> dict[str, Any]:
        """Wait for a run's report.

        Raises:
            BoxLost: If the box has ended, or does not answer in time.
        """
        try:
            self._control.settimeout(max(0.001, seconds))
            return wire.receive(self._control)[0]
        except (EOFError, OSError) as error:
            raise BoxLost(f"no answer ({error})") from error

    def has_reply(self, seconds: float) -> bool:
        """Whether a report comes within this time."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def cancel(self) -> None:
        """End the run in progress, whose report still follows.

        Raises:
            BoxLost: If the box has ended.
        """
        self.submit({"cancel": True})

    def hang_up(self) -> None:
        """From another thread: end the box and whatever runs in it, and wake up who waits for a reply."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has been stopped

    def stop(self) -> str:
        """End the box and everything in it; returns the end of its standard error. Safe to call twice."""
        self._control.close()
        if self._process.poll() is None and not self._ends_by_itself():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._stderr.closed:
            return ""
        with self._stderr as stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 2000))
            return stderr.read().decode(errors="replace").strip()

    def _ends_by_itself(self) -> bool:
        """Whether it ends soon, its socket being closed; what it runs has ended then."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            return True
        return False
