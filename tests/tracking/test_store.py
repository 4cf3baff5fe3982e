from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import pytest

from omnithink_pl.tracking.store import TrackingError, connect


@pytest.mark.parametrize("uri", ["mlruns", "file:./mlruns", "./mlflow.db"])
def test_a_plain_directory_is_refused_with_the_cure(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"trainer\.logger\.init_args\.tracking_uri.*use sqlite:///mlflow\.db"):
        connect(uri)


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(TrackingError, match="tracking_uri: cannot open the tracking store at nonsense://x"):
        connect("nonsense://x")


def test_a_place_that_cannot_hold_a_database_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(TrackingError, match=r"tracking_uri: cannot open the tracking store.*choose another store"):
        connect(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(TrackingError, match="unable to open database file"):
        connect(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database " * 1000)
    with pytest.raises(TrackingError, match="file is not a database"):
        connect(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_server_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(TrackingError, match=r"no tracking server answers at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9")


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
