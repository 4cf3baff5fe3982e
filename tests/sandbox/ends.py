"""Waiting for the end of processes that are nobody's children here."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


def all_end(pids: Iterable[int], patience: float = 20.0) -> bool:
    """Whether all these processes end within ``patience`` seconds each."""
    return all(_ends(pid, patience) for pid in pids)


def _ends(pid: int, patience: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], patience)[0])
    finally:
        os.close(handle)
