"""The tracking store: opening it, and turning its failures into one clear error."""

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

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTING = "trainer.logger.init_args.tracking_uri"
_SQLITE = "sqlite:///"
_CURE = "make it writable, free space on its disk, or choose another store such as sqlite:///mlflow.db"


class TrackingError(RuntimeError):
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
