"""Files and folders that are there whole or not at all, whenever their writer is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside its place, ``<name>.part``; at the end, bring it to the disk and rename it into its place.

    Raises:
        OSError: If it cannot be written; what was there before is unchanged.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a name may be lost with the power, too
    finally:
        os.close(folder)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside its place, ``<name>.part``; at the end, rename it into its place, instead of an older one.

    An older one is first renamed to ``<name>.old``, and removed at the very end: only between the two renamings, which
    take microseconds, is there none.

    Raises:
        OSError: If it cannot be written.
    """
    part, old = (path.with_name(f"{path.name}.{suffix}") for suffix in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)  # of a writer that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():  # interrupted between the two, now or before
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
