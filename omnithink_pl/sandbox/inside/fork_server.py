"""The one long-lived process of a box: it forks a locked child for every run.

Starting Python once and forking is what makes a run cost milliseconds. Its standard input is a socket: the
first message configures it, and every further one is a run (see :class:`Run`).

Not covered: secrets of this process. A program inherits its memory, so nothing enters it that another program must not
see: the input and output of a run are files that are passed on unread.
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

from omnithink_pl.sandbox.inside import arrays, execution, frames, prelude, processes
from omnithink_pl.sandbox.inside.confine import Limits, Seal, lock, seal

_SOURCE, _LOCKED = 5, 6  # file descriptors of a run, after the standard streams, the channel and the report
_COPIED_BYTES = 1 << 22  # of standard input at most, to /dev/stdin in the scratch directory
# Of packages that are compiled: threads of this process would not survive its forks.
_SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_CONTROL = 100  # file descriptor, out of the way of a child's own


@dataclass(frozen=True)
class Run:
    """A run of a program or of a test, and its limits."""

    kind: str  # "script"; "calls", a program for a test to call; or "test"
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int  # largest file, standard output included
    entry_point: str = ""  # of a test: expression for the object under test


def main() -> None:
    """Serve until the other side closes the socket."""
    os.dup2(0, _CONTROL)
    control = socket.socket(fileno=_CONTROL)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.environ.clear()
    os.chdir("/")
    try:
        settings, _ = frames.receive(control)
        server = ForkServer(control, settings)
        seal(Seal(**settings["seal"]))
        server.clean_scratch()
        gc.collect()
        gc.freeze()
        frames.send(control, {"ready": True})
        while True:
            job, files = frames.receive(control)
            if job.pop("cancel", False):  # of a run that has ended meanwhile
                continue
            frames.send(control, server.run(Run(**job), files))
            server.clean_scratch()
    except (EOFError, ConnectionError):
        return


class ForkServer:
    """Forks a child for a run, kills it at its deadline, and reports how it ended."""

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self._control = control
        self._limits = Limits(**settings["limits"])
        self._filter = base64.b64decode(settings["filter"])
        self._scratch = Path(settings["seal"]["scratch"]) if settings["seal"]["scratch"] else None
        os.environ.update(_SINGLE_THREADED)
        self._provided = prelude.provide(settings["packages"], settings["folders"])
        os.environ.clear()
        arrays.add_kinds()
        processes.use_threads()

    def run(self, run: Run, files: list[int]) -> dict[str, Any]:
        """Run a child with these files (see :class:`omnithink_pl.sandbox.box.Streams`) and return its report."""
        started = time.monotonic()
        files[0] = self._stdin(files[0])
        locked, child_locked = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(run, [*files, child_locked])
        for file in (*files, child_locked):
            os.close(file)
        status, cpu = self._wait(pid, run)
        is_locked = os.read(locked, 1) == b"k"
        os.close(locked)
        return {"status": status, "cpu": cpu, "locked": is_locked, "seconds": time.monotonic() - started}

    def clean_scratch(self) -> None:
        """Empty the scratch directory; after an ``OSError`` the box must not be used any more."""
        if self._scratch is None:
            return
        self._scratch.chmod(0o700)
        os.chdir(self._scratch)
        while names := os.listdir():
            for name in names:
                _remove(name)
        os.mkdir("work")
        os.chdir("work")

    def _stdin(self, given: int) -> int:
        """Return the file to read from; in a box with a scratch directory it is /dev/stdin as well."""
        size = os.fstat(given).st_size
        if self._scratch is None or size > _COPIED_BYTES:
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
            for number, file in enumerate(files):  # by way of high numbers, since old and new ones overlap
                os.dup2(file, 200 + number)
            for number in range(len(files)):
                os.dup2(200 + number, number)
            os.closerange(len(files), 256)
            lock(self._limits, run.cpu_seconds, run.output_bytes, self._filter)
            os.write(_LOCKED, b"k")
            os.close(_LOCKED)
            with open(_SOURCE, encoding="utf-8", errors="surrogatepass", newline="") as text:
                source = text.read().removeprefix("\ufeff")
            if run.kind == "test":
                execution.run_test(source, run.entry_point, self._provided)
            os.close(execution.REPORT)
            if run.kind == "calls":
                execution.serve_calls(source)
            os.close(execution.CHANNEL)
            execution.run_script(source)
        except BaseException:  # noqa: BLE001 - as Python does at the end of a program
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os._exit(1)

    def _wait(self, pid: int, run: Run) -> tuple[str, float]:
        """Wait until a child ends, its time is over or the run is cancelled; return status and processor seconds."""
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
        if code == -signal.SIGKILL and cpu > run.cpu_seconds / 2:  # RLIMIT_CPU; the kernel counts by ticks
            status = status or "timeout"
        return status or (f"exit {code}" if code >= 0 else f"signal {-code}"), cpu


def _remove(name: str) -> None:
    """Remove a file, or a directory after moving its content up, so that no path grows long however deep it is."""
    if os.path.islink(name) or not os.path.isdir(name):
        os.unlink(name)
        return
    os.chmod(name, 0o700)
    for inner in (os.path.join(name, inner) for inner in os.listdir(name)):
        if os.path.isdir(inner) and not os.path.islink(inner):
            os.chmod(inner, 0o700)  # a directory that is not writable cannot be moved
        os.rename(inner, os.urandom(16).hex())
    os.rmdir(name)
