"""Files and folders are there whole or not at all, and an older one stays until the new one takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnithink_pl.whole import whole_file, whole_folder


class Interrupted(BaseException):
    """As Ctrl-C and SIGTERM raise it."""


def write(path: Path, text: str, stop: bool = False) -> None:
    with whole_folder(path) as folder:
        (folder / "a").write_text(text)
        if stop:
            raise Interrupted


def write_file(path: Path, data: bytes, stop: bool = False) -> None:
    with whole_file(path) as file:
        file.write(data)
        if stop:
            raise Interrupted


def test_a_writer_that_is_interrupted_leaves_the_older_one_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "folder", "old")
    with pytest.raises(Interrupted):
        write(tmp_path / "folder", "new", stop=True)
    write_file(tmp_path / "file", b"old")
    with pytest.raises(Interrupted):
        write_file(tmp_path / "file", b"new", stop=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "folder" / "a").read_text() == (tmp_path / "file").read_text() == "old"


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write(tmp_path / "folder", text)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "a").read_text() == "new"


@pytest.mark.parametrize("stop", [False, True], ids=["written", "interrupted"])
def test_what_a_writer_that_was_killed_between_two_renamings_left_is_not_lost(tmp_path: Path, stop: bool) -> None:
    write(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(tmp_path / "folder.old")
    if stop:
        with pytest.raises(Interrupted):
            write(tmp_path / "folder", "new", stop=True)
    else:
        write(tmp_path / "folder", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "a").read_text() == ("old" if stop else "new")
