"""Exceptions that end a run as if it were finished and how they become failures; SIGTERM, and how it becomes one.

``StopIteration`` ends Lightning's loop over the batches like the last batch, and ``SystemExit`` ends the process with
exit code 0. Raised by a source, a reward, an engine or a callback, both would leave a run that counts as finished.
"""

from __future__ import annotations

import argparse
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from types import FrameType, TracebackType
from typing import final

from lightning.pytorch.utilities.exceptions import SIGTERMException

from omnithink_pl.errors import RunEnded

_SILENT = (StopIteration, StopAsyncIteration, GeneratorExit, SystemExit)


@final
class no_silent_end(ContextDecorator):
    """Raise ``RunEnded`` where the code inside would end the run silently.

    SIGTERM, the exit after Ctrl-C, and that of a parser after ``--help``, are meant to end it.

    Args:
        what: What is called, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        """Enter."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Convert what was raised."""
        if not isinstance(error, _SILENT) or isinstance(error, SIGTERMException) or _by_parser(error):
            return
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise RunEnded(
                f"{self.what} raised {error!r}{_where(error)}, which would have ended the run as if it were finished; "
                f"mend what raised it and continue with --ckpt_path last"
            ) from error


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise ``SIGTERMException`` at SIGTERM: Python would die at once, and leave a run that seems to run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, frame: FrameType | None) -> None:
    raise SIGTERMException


def _by_parser(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, SystemExit) and bool(frames) and frames[-1].filename == argparse.__file__


def _where(error: BaseException) -> str:
    """Return the innermost line that raised an error: the command line shows no traceback of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def exit_code(ended: SystemExit) -> int | str | None:
    """Return the exit code of a process that ends; SIGTERM's own is 0, which a scheduler would take for success."""
    return 128 + signal.SIGTERM if isinstance(ended, SIGTERMException) else ended.code
