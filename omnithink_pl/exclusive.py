"""Make files and folders that several processes may want to make at the same moment."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


def make_once(path: Path, make: Callable[[Path], None]) -> None:
    """Make a file unless there is one: by one process while others wait, beside it, and then renamed into place.

    Whoever sees the file sees it whole. What a killed maker left behind, ``<name>.unfinished``, is replaced by the next
    one, and an empty file, which SQLite makes where it is killed before its first write, counts as none.

    Args:
        path: The file. Its folder is made too.
        make: Makes the file at the path that it is given, and closes it.

    Raises:
        OSError: If the folder cannot be written.
    """
    if _is_made(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with locked(lock):
        if not _is_made(path):
            unfinished = path.with_name(f"{path.name}.unfinished")
            for left in path.parent.glob(f"{unfinished.name}*"):  # SQLite's journal beside it too
                left.unlink()
            make(unfinished)
            unfinished.replace(path)
        # Whoever waits for it, or comes late and makes it anew, finds the file made, and does the same.
        lock.unlink(missing_ok=True)


def make_folder(parent: Path, name: str) -> Path:
    """Make a folder that no other process has, and return it: ``name``, else ``name-2`` and so on."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() does not end")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made, against other processes; the kernel releases it if this one is killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_made(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
