"""One process at a time for each job, also when two studies run side by side or one was killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnithink_pl.errors import BadInput


@contextmanager
def free_to_run(folder: Path) -> Iterator[int | None]:
    """Take the right to work in a folder.

    The lock belongs to the open file: a child process that inherits it holds it as long as it lives. The kernel
    releases it when the last of its holders has ended, however it ended.

    Args:
        folder: The folder; made if it does not exist.

    Yields:
        The lock, as a file descriptor to inherit; ``None`` if another process has it.

    Raises:
        BadInput: If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError:
        yield None
    finally:
        os.close(lock)
