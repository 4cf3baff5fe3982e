"""Open the tracking store, and turn its failures into one clear error."""

from __future__ import annotations

import http.client
import logging
import os
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omnithink_pl.errors import OmniThinkError
from omnithink_pl.exclusive import make_once

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT = "sqlite:///mlflow.db"
SETTING = "trainer.logger.init_args.tracking_uri"
_VARIABLE = "MLFLOW_TRACKING_URI"  # MLflow's own
_SQLITE = "sqlite:///"
_CURE = f"make it writable, free space on its disk, or choose another store such as {DEFAULT}"
_TIMEOUT = 20.0  # seconds
_GATEWAY = {502, 503, 504}
_DETAIL = "(raised as a result of "  # SQLAlchemy's line before that of the database


# MLflow's own would let a server that hangs, or asks for patience, block a step for a quarter of an hour.
_REQUESTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}


class TrackingError(OmniThinkError):
    """The tracking store cannot be used; the message names the setting and the cure."""


class Unanswered(TrackingError):
    """A tracking server has not answered a request: it may be there again later, and may have done what was asked."""


def find_store(given: str | None) -> str:
    """Return the address of the tracking store: what is given, else ``$MLFLOW_TRACKING_URI``, else a file here."""
    return given or os.environ.get(_VARIABLE) or DEFAULT


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
        raise TrackingError(f"{_setting(uri)}: {uri!r} is no tracking store; use {DEFAULT} or http://host:port")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with guard(uri, "open the tracking store"):
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            _probe(uri)
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
    """Raise errors of MLflow and of the disk as ``TrackingError``, which names the action, such as ``log metrics``.

    A server that does not answer, or dies meanwhile, is given up after two requests of 20 seconds.
    """
    import requests
    from mlflow.exceptions import MlflowException

    try:
        with _brief_requests():
            yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        lines = [line for line in str(error).strip().splitlines() if not line.startswith(_DETAIL)]
        reason = lines[0] if lines else type(error).__name__
        if isinstance(error.__context__, requests.ConnectionError | requests.Timeout):  # what MLflow has caught
            raise Unanswered(
                f"{_setting(uri)}: cannot {action}: {uri} does not answer; start it, then do the same again, with "
                f"--ckpt_path last if it was fit ({reason})"
            ) from error
        raise TrackingError(f"{_setting(uri)}: cannot {action} at {uri}: {reason}; {_CURE}") from error


def _setting(uri: str) -> str:
    """Return what said that this is the store, for messages."""
    return _VARIABLE if uri == os.environ.get(_VARIABLE) else SETTING


@contextmanager
def _brief_requests() -> Iterator[None]:
    """Bound MLflow's requests and retries, but for what the user's environment says about them."""
    missing = _REQUESTS.keys() - os.environ.keys()
    os.environ.update({name: _REQUESTS[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _probe(uri: str) -> None:
    """Raise at once where MLflow would retry for minutes; make an SQLite store that does not exist."""
    if path := sqlite_path(uri):
        make_once(path, _make_store)
        with closing(sqlite3.connect(path, timeout=_TIMEOUT)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE omnithink_probe (x)")  # a read-only file refuses only a write
            connection.rollback()
            _check_finished(connection, path)
    elif uri.startswith("http") and (problem := outage(uri)):
        raise TrackingError(
            f"{_setting(uri)}: no tracking server answers at {uri}: {problem}; start it, correct the address, or use "
            f"{DEFAULT}"
        )


def outage(uri: str, timeout: float = _TIMEOUT) -> str:
    """Return why a tracking server cannot be reached; empty if it answers, whatever it says."""
    try:
        urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=timeout).close()
    except urllib.error.HTTPError as error:
        # A proxy says 502 to 504 for a server that is away; what the server itself lacks or forbids, MLflow reports.
        return str(error) if error.code in _GATEWAY else ""
    except (OSError, http.client.HTTPException) as error:  # URLError among them
        reason = getattr(error, "reason", error)
        # Whoever made a certificate that Python refuses may have told MLflow to trust it.
        return "" if isinstance(reason, ssl.SSLError) else str(reason) or type(reason).__name__
    return ""


def _make_store(path: Path) -> None:
    """Make an SQLite store: its tables, by all of MLflow's migrations, and its default experiment."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"{_SQLITE}{path}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()


def _check_finished(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a store whose making was interrupted: MLflow would make it again, and fail on the tables that exist."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    versions = connection.execute("SELECT * FROM alembic_version").fetchall() if "alembic_version" in tables else []
    if "experiments" in tables and not versions:
        raise TrackingError(
            f"{SETTING}: the making of {path} was interrupted before a run could be stored; delete the file, and the "
            f"next run makes it anew"
        )
