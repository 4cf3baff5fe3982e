"""What a process said last."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL = 4096  # bytes


def last_line(path: Path) -> str:
    """The last line with anything on it of a log that is being written; empty if there is none yet."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _TAIL))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
