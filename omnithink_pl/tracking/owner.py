"""Which process writes a run, so that a run whose process died can be told from a live one."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "owner"


@dataclass(frozen=True)
class Owner:
    """A process on a machine.

    Args:
        host: Name of the machine.
        boot: Identity of the machine's present boot and of the process's PID namespace, so that equal
            numbers in two containers or after a restart are not taken for the same process.
        pid: Process number.
        started: When the process started, in clock ticks since the boot; tells a reused number apart.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return cls(platform.node(), _boot(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Owner | None:
        """The process that a run's tags name; ``None`` if they name none."""
        pid = tags.get(f"{_PREFIX}.pid", "")
        if not pid.isdigit():
            return None
        host, boot, started = (tags.get(f"{_PREFIX}.{key}", "") for key in ("host", "boot", "started"))
        return cls(host, boot, int(pid), started)

    def tags(self) -> dict[str, str]:
        """The tags that name this process."""
        values = {"host": self.host, "boot": self.boot, "pid": str(self.pid), "started": self.started}
        return {f"{_PREFIX}.{key}": value for key, value in values.items()}

    def is_here(self) -> bool:
        """Whether its process number means something on this machine, now."""
        return self.host == platform.node() and self.boot == _boot()

    def is_gone(self) -> bool:
        """Whether the process has provably ended; unknown counts as alive."""
        return self.is_here() and not self._runs()

    def is_alive_elsewhere(self) -> bool:
        """Whether another process of this machine provably still runs."""
        return self.is_here() and self.pid != os.getpid() and self._runs()

    def _runs(self) -> bool:
        if not Path("/proc/self/stat").exists():  # macOS: a reused number looks alive, which is the safe side
            return _exists(self.pid)
        return _started(self.pid) == self.started


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Start of a process in ticks since the boot, field 22 of proc(5) stat; ``None`` if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if state in "ZX" else rest[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
