"""A box: a process that runs programs, sealed as :mod:`omnithink_pl.sandbox.tiers` says, and the files of one run."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self, final

from omnithink_pl.sandbox.inside import frames
from omnithink_pl.sandbox.thread_limit import ThreadLimit
from omnithink_pl.sandbox.workers import ChildProcess

_STARTUP = 60.0  # seconds
_GRACE = 2.0  # seconds to exit after the socket has closed
_STDERR_BYTES = 2000


class BoxLost(RuntimeError):
    """A box did not start, or has ended by itself."""


@contextmanager
def _loss() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise BoxLost(f"no answer ({error})") from error


@final
class Box:
    """A started box, from the command line of its fork server and the first message to it; it ends with this process.

    Every method but :meth:`stop` and :meth:`disconnect` raises ``BoxLost`` if the box has ended or did not start.
    """

    def __init__(self, command: Sequence[str], settings: dict[str, Any]) -> None:
        self._process = ChildProcess(command, {"PYTHONHASHSEED": "0"})
        self._control = self._process.socket
        self._threads: ThreadLimit | None = None
        try:
            self.submit(settings)
            self.reply(_STARTUP)
            self._threads = ThreadLimit.where_needed(self._process.pid, settings["limits"]["threads"])
        except BoxLost as error:
            raise BoxLost(self.stop() or str(error)) from error
        except BaseException:  # interrupted
            self.stop()
            raise

    def submit(self, job: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Begin a run (:class:`omnithink_pl.sandbox.inside.fork_server.Run`), or cancel it."""
        if self._threads is not None:
            self._threads.on()
        with _loss():
            self._control.settimeout(_STARTUP)
            frames.send(self._control, job, files)

    def reply(self, seconds: float) -> dict[str, Any]:
        """Wait for a run's report; late is lost."""
        with _loss():
            self._control.settimeout(max(0.001, seconds))
            report = frames.receive(self._control)[0]
        if self._threads is not None:
            self._threads.off()
        return report

    def has_reply(self, seconds: float) -> bool:
        """Return whether a report arrives within this time."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def disconnect(self) -> None:
        """From another thread: end the box and its run, and wake up a thread that waits for a reply."""
        with suppress(OSError):  # it has been stopped
            self._control.shutdown(socket.SHUT_RDWR)

    def stop(self) -> str:
        """End the box and everything in it; return the end of its standard error. Safe to call twice."""
        if self._threads is not None:
            self._threads.end()
        return self._process.stop(_GRACE)


@final
class Streams:
    """Files in memory that only the run itself and this process open; a channel leads to the other side of a test.

    The fork server passes them on unread. A run inherits the fork server's memory, and could otherwise find
    there the input and output of earlier programs: the answers to the same tests.
    """

    def __init__(self, source: str, stdin: str = "", channel: socket.socket | None = None) -> None:
        self._stdout, self._stderr, self._report = map(_memory_file, ("stdout", "stderr", "report"))
        program, written = _memory_file("source", source), _memory_file("stdin", stdin)
        self._own = [written, self._stdout, self._stderr, self._report, program]
        passed = self._stdout if channel is None else channel.fileno()
        # In the order of their numbers in the run.
        self.files = [written, self._stdout, self._stderr, passed, self._report, program]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._own:
            os.close(file)

    @property
    def output_bytes(self) -> int:
        """Bytes on standard output."""
        return os.fstat(self._stdout).st_size

    @property
    def stdout(self) -> str:
        """All of standard output."""
        return _read(self._stdout)

    @property
    def stderr(self) -> str:
        """The end of standard error."""
        return _read(self._stderr, _STDERR_BYTES)

    @property
    def report(self) -> str:
        """Result that a test reported."""
        return _read(self._report)


def _memory_file(name: str, text: str = "") -> int:
    file = os.memfd_create(name)
    with open(file, "wb", closefd=False) as writer:
        writer.write(text.encode(errors="surrogatepass"))
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _read(file: int, last: int = sys.maxsize) -> str:
    size = os.fstat(file).st_size
    return os.pread(file, size, max(0, size - last)).decode(errors="replace")
