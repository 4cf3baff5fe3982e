"""Landlock: a process gives up all files but those named. By system calls, since no package is at hand in a box."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by version
_NETWORK, _SCOPES = 0b11, 0b11  # TCP bind and connect, from 4; abstract sockets and signals, from 6
_LIBC = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Landlock's version in this kernel; 0 where there is none."""
    return max(0, _LIBC.syscall(_CREATE, None, 0, _VERSION))


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Give up all files but these, and all beneath them; requires ``NO_NEW_PRIVS``.

    Args:
        readable: Files and directories that stay readable.
        writable: Devices that may be written as well.

    Raises:
        OSError: If the kernel refuses.
    """
    known = version()
    rights = max((bits for since, bits in _FILE_RIGHTS.items() if since <= known), default=0)
    attributes = struct.pack("QQQ", rights, _NETWORK, _SCOPES)[: 24 if known >= 6 else 16 if known >= 4 else 8]
    ruleset = _call(_CREATE, attributes, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    for path in writable:
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rights)
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= ~_READ_DIR
    _call(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, file), 0)
    os.close(file)


def _call(number: int, *args: bytes | int) -> int:
    result = _LIBC.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
