"""The files of one run: what it gets, and what it leaves behind."""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Self, final

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
