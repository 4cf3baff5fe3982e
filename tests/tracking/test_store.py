from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from omnithink_pl.tracking.store import TrackingError, connect, find_store, guard


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mlruns", r"trainer\.logger\.init_args\.tracking_uri.*use sqlite:///mlflow\.db"),
        ("file:./mlruns", r"is no tracking store; use sqlite:///mlflow\.db"),
        ("./mlflow.db", r"is no tracking store; use sqlite:///mlflow\.db"),
        ("nonsense://x", "tracking_uri: cannot open the tracking store at nonsense://x"),
        ("sqlite:///file/mlflow.db", r"tracking_uri: cannot open the tracking store.*choose another store"),
        ("sqlite:///directory", "unable to open database file"),
        ("sqlite:///file", "file is not a database"),
        ("http://127.0.0.1:9", r"no tracking server answers at http://127\.0\.0\.1:9"),
    ],
)
def test_what_is_no_store_is_refused_at_once_with_the_cure(
    uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no database " * 1000)
    (tmp_path / "directory").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=message):
        connect(uri)


def test_a_store_that_the_environment_names_is_refused_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///mlruns")
    with pytest.raises(TrackingError, match=r"^MLFLOW_TRACKING_URI: 'file:///mlruns' is no tracking store; use sqlite"):
        connect(find_store(None))
    with pytest.raises(TrackingError, match=r"^trainer\.logger\.init_args\.tracking_uri: 'mlruns'"):
        connect(find_store("mlruns"))


def test_a_read_only_store_is_refused_at_once(empty_store: Path) -> None:
    """In a child without root's right to write anything anywhere."""
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "mlflow.db"
        database.write_bytes(empty_store.read_bytes())
        database.chmod(0o444)
        Path(name).chmod(0o555)
        assert _message_without_privileges(f"sqlite:///{database}").startswith(
            f"trainer.logger.init_args.tracking_uri: cannot open the tracking store at sqlite:///{database}: "
            "attempt to write a readonly database; make it writable"
        )
        Path(name).chmod(0o755)


def _message_without_privileges(uri: str) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            connect(uri)
        except TrackingError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def test_a_new_store_prints_nothing_and_leaves_logging_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    client = connect(f"sqlite:///{tmp_path}/new.db")
    assert client.search_experiments()
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)


def test_the_reason_is_what_the_database_says_and_not_where_sqlalchemy_noticed_it(empty_store: Path) -> None:
    """A locked database, which is waited for, is told by this reason from one that refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    refused = OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))
    refused.add_detail("raised as a result of Query-invoked autoflush")
    told = pytest.raises(TrackingError, match=r"cannot log metrics at .*: \(sqlite3\.\w+\) database is locked; make it")
    with told, guard(f"sqlite:///{empty_store}", "log metrics"):
        raise MlflowException(str(refused))
