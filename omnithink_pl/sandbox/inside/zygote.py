"""The one long-lived process of a box: it forks a locked child for every run.

Starting Python once and forking is what makes a run cost milliseconds. Its standard input is a socket: the
first message configures it, and every further one is a run (see :class:`Run`). A program inherits the memory of
this process. So nothing enters it that another program should not see: what a run gets and leaves is in files that
are passed on unread.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnithink_pl.sandbox.inside import judge, prelude, program, wire
from omnithink_pl.sandbox.inside.confine import Limits, Seal, lock, seal

_CHANNEL, _REPORT, _SOURCE, _SEALS = 3, 4, 5, 6  # file descriptors of a run, after the standard streams
_LARGE = 1 << 22  # bytes of standard input that are not put into the scratch directory any more
_CONTROL = 100  # file descriptor, out of the way of a child's own


@dataclass(frozen=True)
class Run:
    """What to run.

    Args:
        kind: ``script``; ``calls``, a program for a test to call; or ``judge``, that test.
        cpu_seconds: Processor time that is left.
        wall_seconds: Time that is left.
        output_bytes: Largest file, so also what it may print.
        entry_point: What a test tests.
    """

    kind: str
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int
    entry_point: str = ""


class Zygote:
    """Forks a child for a run, waits for it, but not for longer, and reports what it left behind."""

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self._control = control
        self._limits = Limits(**settings["limits"])
        self._filter = base64.b64decode(settings["filter"])
        self._scratch = Path(settings["seal"]["scratch"]) if settings["seal"]["scratch"] else None
        self._provided = prelude.provide(settings["packages"])

    def run(self, run: Run, files: list[int]) -> dict[str, Any]:
        """One run, in a child, with these files; see :class:`omnithink_pl.sandbox.box.Streams`."""
        started = time.monotonic()
        files[0] = self._stdin(files[0])
        sealed, seals = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(run, [*files, seals])
        for file in (*files, seals):
            os.close(file)
        status, cpu = self._wait(pid, run)
        locked = os.read(sealed, 1) == b"k"
        os.close(sealed)
        return {"status": status, "cpu": cpu, "locked": locked, "seconds": time.monotonic() - started}

    def tidy(self) -> None:
        """Empty the scratch directory.

        Raises:
            OSError: If that fails; the box is to be given up then.
        """
        if self._scratch is None:
            return
        self._scratch.chmod(0o700)
        os.chdir(self._scratch)
        while names := os.listdir():
            for name in names:
                _dissolve(name)
        os.mkdir("work")
        os.chdir("work")

    def _stdin(self, given: int) -> int:
        """A file to read from, which in a box with a scratch directory is /dev/stdin as well."""
        size = os.fstat(given).st_size
        if self._scratch is None or size > _LARGE:
            return given
        file = os.open(self._scratch / "stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        copied = 0
        while copied < size:
            copied += os.sendfile(file, given, copied, size - copied)
        os.lseek(file, 0, os.SEEK_SET)
        os.close(given)
        return file

    def _child(self, run: Run, files: list[int]) -> None:
        """Become the run. Does not return."""
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, file in enumerate(files):
                os.dup2(file, 200 + number)
            for number in range(len(files)):
                os.dup2(200 + number, number)
            os.closerange(len(files), 256)
            lock(self._limits, run.cpu_seconds, run.output_bytes, self._filter)
            os.write(_SEALS, b"k")
            os.close(_SEALS)
            with open(_SOURCE, encoding="utf-8", errors="surrogatepass", newline="") as text:
                source = text.read()
            self._execute(run, source)
        except BaseException:  # noqa: BLE001 - as Python does at the end of a program
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os._exit(1)

    def _execute(self, run: Run, source: str) -> None:
        if run.kind == "judge":
            judge.judge(source, run.entry_point, self._provided)
        os.close(_REPORT)
        if run.kind == "calls":
            program.serve_calls(source)
        os.close(_CHANNEL)
        program.run_script(source)

    def _wait(self, pid: int, run: Run) -> tuple[str, float]:
        """Wait for a child to end, for its time to pass or for word that it is not wanted any more."""
        handle = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        ready = dict(poll.poll(max(0.0, run.wall_seconds) * 1000))
        status = "" if handle in ready else "cancelled" if ready else "timeout"
        if status:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
        _, code, used = os.wait4(pid, 0)
        cpu = used.ru_utime + used.ru_stime
        code = os.waitstatus_to_exitcode(code)
        if code == -signal.SIGKILL and cpu > run.cpu_seconds / 2:  # the kernel counts by ticks, and not exactly
            status = status or "timeout"
        return status or (f"exit {code}" if code >= 0 else f"signal {-code}"), cpu


def _dissolve(name: str) -> None:
    """Remove a file, or a directory after moving up what it holds: however deep it is, no path grows long."""
    if os.path.islink(name) or not os.path.isdir(name):
        os.unlink(name)
        return
    os.chmod(name, 0o700)
    for inner in (os.path.join(name, inner) for inner in os.listdir(name)):
        if os.path.isdir(inner) and not os.path.islink(inner):
            os.chmod(inner, 0o700)  # what may not be written may not be moved
        os.rename(inner, os.urandom(16).hex())
    os.rmdir(name)


def main() -> None:
    """Serve until the other side closes the socket."""
    os.dup2(0, _CONTROL)
    control = socket.socket(fileno=_CONTROL)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.clear()
    os.chdir("/")
    try:
        settings, _ = wire.receive(control)
        zygote = Zygote(control, settings)
        sys.path[:] = [path for path in sys.path if path not in sys.argv[2:]]
        seal(Seal(**settings["seal"] | {"readable": tuple(settings["seal"]["readable"])}))
        zygote.tidy()
        gc.collect()
        gc.freeze()
        wire.send(control, {"ready": True})
        while True:
            job, files = wire.receive(control)
            if job.pop("cancel", False):  # of a run that has ended meanwhile
                continue
            wire.send(control, zygote.run(Run(**job), files))
            zygote.tidy()
    except (EOFError, ConnectionError):
        return
