"""Open the tracking store, and turn its failures into one clear error."""

from __future__ import annotations

import logging
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import OmniThinkError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTING = "trainer.logger.init_args.tracking_uri"
_SQLITE = "sqlite:///"
_CURE = "make it writable, free space on its disk, or choose another store such as sqlite:///mlflow.db"
_TIMEOUT = 20.0  # seconds


class TrackingError(OmniThinkError):
    """The tracking store cannot be used; the message names the setting and the cure."""


def connect(uri: str) -> MlflowClient:
    """Return a client of a tracking store; an SQLite store is created if it does not exist."""
    with opening(uri):
        from mlflow.tracking import MlflowClient

        return MlflowClient(uri)


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Probe a store, and keep MLflow quiet while the store is opened within the context.

    MLflow retries an unusable database or server for minutes, and prints every migration of a new database. Its errors
    come back as exceptions, so nothing is lost with its log.
    """
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise TrackingError(f"{SETTING}: {uri!r} is no tracking store; use sqlite:///mlflow.db or http://host:port")
    _probe(uri)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with guard(uri, "open the tracking store"):
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            yield
    finally:  # the migrations of a new database reconfigure the root logger
        root.handlers[:] = handlers
        root.setLevel(level)


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store; ``None`` for other stores and for one in memory."""
    name = uri.removeprefix(_SQLITE).partition("?")[0]
    if not uri.startswith(_SQLITE) or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(name)


def artifact_location(uri: str, chosen: str | None = None) -> str | None:
    """Return the URI for a new experiment's files: ``mlartifacts`` beside an SQLite database; ``None``: the store's."""
    database = sqlite_path(uri)
    if chosen is not None or database is None:
        return chosen
    return (database.resolve().parent / "mlartifacts").as_uri()


@contextmanager
def guard(uri: str, action: str) -> Iterator[None]:
    """Raise errors of MLflow and of the disk as ``TrackingError``, which names the action, such as ``log metrics``."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrackingError(f"{SETTING}: cannot {action} at {uri}: {reason}; {_CURE}") from error


def _probe(uri: str) -> None:
    if path := sqlite_path(uri):
        with guard(uri, "open the tracking store"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=_TIMEOUT)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("CREATE TABLE omnithink_probe (x)")  # a read-only file refuses only a write
                connection.rollback()
    if not uri.startswith("http"):
        return
    try:
        urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        return  # the server answers; MLflow reports what it lacks or forbids
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError | socket.gaierror | TimeoutError):
            raise TrackingError(
                f"{SETTING}: no tracking server answers at {uri}: {error.reason}; start it, correct the "
                f"address, or use sqlite:///mlflow.db"
            ) from error
