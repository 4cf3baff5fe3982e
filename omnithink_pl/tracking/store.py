"""The tracking store: opening it, and turning its failures into one clear error."""

from __future__ import annotations

import logging
import os
import platform
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import OmniThinkError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


SETTING = "trainer.logger.init_args.tracking_uri"
_SQLITE = "sqlite:///"
_CURE = "make it writable, free space on its disk, or choose another store such as sqlite:///mlflow.db"


class TrackingError(OmniThinkError):
    """The tracking store cannot be used; the message names the setting and the cure."""


def connect(uri: str) -> MlflowClient:
    """Open a tracking store; an SQLite one is created when it does not exist.

    MLflow retries an unusable database for minutes and prints every migration of a new one. Here a
    store is probed first and MLflow is kept quiet, because its errors come back as exceptions.

    Args:
        uri: ``sqlite:///<path>``, another SQLAlchemy database, or ``http(s)://<host>:<port>``.

    Raises:
        TrackingError: If the store cannot be opened.
    """
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise TrackingError(f"{SETTING}: {uri!r} is no tracking store; use sqlite:///mlflow.db or http://host:port")
    path = sqlite_path(uri)
    if path is not None:
        _probe_sqlite(uri, path)
    elif uri.startswith("http"):
        _probe_server(uri)
    with _root_logging_kept(), guard(uri, "open the tracking store"):
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(uri)


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; ``None`` for other stores and for one in memory."""
    name = uri.removeprefix(_SQLITE).partition("?")[0]
    if not uri.startswith(_SQLITE) or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(name)


def artifact_location(uri: str, chosen: str | None) -> str | None:
    """Where the files of a new experiment go: ``mlartifacts`` beside an SQLite database, if nothing was chosen.

    Returns:
        A URI; ``None`` leaves it to the store.
    """
    database = sqlite_path(uri)
    if chosen is not None or database is None:
        return chosen
    return (database.resolve().parent / "mlartifacts").as_uri()


@contextmanager
def guard(uri: str, action: str) -> Iterator[None]:
    """Raise what MLflow and the disk complain about as a ``TrackingError``.

    Args:
        uri: The store, for the message.
        action: What is being done, such as ``log metrics``.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise failure(uri, action, error) from error


def failure(uri: str, action: str, error: BaseException) -> TrackingError:
    """The error to show for a store that failed; only the first line of the cause is kept."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TrackingError(f"{SETTING}: cannot {action} at {uri}: {reason}; {_CURE}")


def _probe_sqlite(uri: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=20.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE omnithink_probe (x)")  # a read-only file refuses only a write
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        raise failure(uri, "open the tracking store", error) from error


def _probe_server(uri: str) -> None:
    """MLflow backs off for minutes before it gives up on a server that is not there."""
    try:
        urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=20.0).close()
    except urllib.error.HTTPError:
        return  # it answers: what it lacks or forbids, MLflow reports itself
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError | socket.gaierror | TimeoutError):
            raise TrackingError(
                f"{SETTING}: no tracking server answers at {uri}: {error.reason}; start it, correct the "
                f"address, or use sqlite:///mlflow.db"
            ) from error


@contextmanager
def _root_logging_kept() -> Iterator[None]:
    """The migrations of a new database reconfigure the root logger; put it back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


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
