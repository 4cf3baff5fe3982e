"""Of processes that make a file or folder at once, one makes it, and nobody sees half of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omnithink_pl import exclusive
from omnithink_pl.exclusive import locked, make_folder, make_once
from omnithink_pl.judge.endpoint import VerdictCache
from omnithink_pl.tracking.store import TrackingError, connect

FORK = multiprocessing.get_context("fork")


def exit_codes(work: Callable[[], object], processes: int) -> list[int | None]:
    """Do the work in several processes, which begin together."""
    together = FORK.Barrier(processes)

    def begin() -> None:
        together.wait()
        work()

    started = [FORK.Process(target=begin) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return [process.exitcode for process in started]


def test_a_file_is_made_by_one_process_and_seen_whole_by_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"

    def make(at: Path) -> None:
        with (tmp_path / "makers").open("a") as makers:
            makers.write("x")
        at.write_text("half")
        at.write_text("whole")

    def use() -> None:
        make_once(path, make)
        assert path.read_text() == "whole"

    assert exit_codes(use, 8) == [0] * 8
    assert (tmp_path / "makers").read_text() == "x"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_who_comes_to_the_lock_after_it_was_removed_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"

    @contextmanager
    def late(lock: Path) -> Iterator[None]:  # another process makes the file after this one has not seen it
        monkeypatch.setattr(exclusive, "locked", locked)
        make_once(path, lambda at: at.write_text("theirs") and None)
        with locked(lock):
            yield

    monkeypatch.setattr(exclusive, "locked", late)
    make_once(path, lambda at: at.write_text("mine") and None)
    assert path.read_text() == "theirs"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_or_failed_maker_left_behind_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def die(at: Path) -> None:
        at.write_text("half")
        at.with_name(f"{at.name}-journal").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(at: Path) -> None:
        at.write_text("half")
        raise OSError("no space")

    assert exit_codes(lambda: make_once(path, die), 1) == [-signal.SIGKILL]
    with pytest.raises(OSError, match="no space"):
        make_once(path, fail)
    assert not path.exists()
    path.touch()  # SQLite's own beginning of a file
    make_once(path, lambda at: at.write_text("whole") and None)
    assert path.read_text() == "whole"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_folders_of_the_same_second_are_different_ones(tmp_path: Path) -> None:
    def make() -> None:
        (make_folder(tmp_path / "runs", "20260102-030405") / "mine").touch(exist_ok=False)

    assert exit_codes(make, 4) == [0] * 4
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "20260102-030405", "20260102-030405-2", "20260102-030405-3", "20260102-030405-4",
    ]  # fmt: skip


def test_processes_open_a_new_cache_of_verdicts_at_once(tmp_path: Path) -> None:
    together = FORK.Barrier(4)

    def use() -> None:
        for number in range(8):
            cache = VerdictCache(f"{tmp_path}/{number}.sqlite")
            together.wait(timeout=60)
            cache.put(f"{os.getpid()}", "A", "judge", "v1")

    assert exit_codes(use, 4) == [0] * 4
    assert sqlite3.connect(tmp_path / "7.sqlite").execute("SELECT count(*) FROM verdicts").fetchall() == [(4,)]
    assert sqlite3.connect(tmp_path / "7.sqlite").execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_cache_that_another_process_has_just_begun_to_write_is_no_error(tmp_path: Path) -> None:
    """SQLite's change to a write-ahead log does not wait for a lock: two processes that both made it failed so."""
    path = tmp_path / "verdicts.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache = VerdictCache(str(path))
        cache.put("key", "B", "judge", "v1")
        assert cache.get(["key"]) == {"key": "B"}


@pytest.mark.slow
def test_two_first_runs_share_a_new_store_and_each_has_its_own(tmp_path: Path) -> None:
    from omnithink_pl.tracking import TrackingLogger

    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def track() -> None:
        logger = TrackingLogger(tracking_uri=uri)
        logger.log_metrics({"reward": 1.0}, 1)
        logger.finalize("success")

    assert exit_codes(track, 3) == [0] * 3
    client = connect(uri)
    runs = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"reward": 1.0})] * 3


def test_a_store_that_an_earlier_version_left_half_made_is_refused_with_the_cure(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as half:
        half.execute("CREATE TABLE experiments (x)")
    with pytest.raises(TrackingError, match=r"the making of .*mlflow\.db was interrupted .*delete the file"):
        connect(f"sqlite:///{tmp_path}/mlflow.db")
