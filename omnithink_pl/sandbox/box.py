"""One box: a process that runs programs in sealed children, and the socket to talk to it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any, final

from omnithink_pl.sandbox.inside import wire
from omnithink_pl.sandbox.tiers import Launch

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
