"""Dropping of rights: once when a box starts (:func:`seal`), and again in a child that runs one program (:func:`lock`).

Linux only, by system calls, because a box has no packages. Not covered: the namespaces of bubblewrap, which exist
before this code runs, and the content of the system call filter (:mod:`omnithink_pl.sandbox.seccomp`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
# <linux/prctl.h>
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_KEEPCAPS, _SET_SECCOMP = 1, 4, 8, 22
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_SECCOMP_FILTER = 2
# <linux/capability.h>
_CAPABILITY_VERSION_3, _CAP_DAC_READ_SEARCH, _LAST_CAPABILITY = 0x20080522, 2, 63
# unshare and mount
_NEW_MOUNTS, _NO_SUID_NO_DEV = 0x20000, 6
_READ_ONLY, _REMOUNT, _BIND = 1, 0x20, 0x1000
_LOCKED = 0xE  # what a user namespace may not take from a mount: nosuid, nodev, noexec
# <linux/landlock.h>; the numbers of its system calls are the same on every architecture
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by Landlock version
_NETWORK, _SCOPES = 0b11, 0b11  # TCP bind and connect, from version 4; abstract sockets and signals, from 6
_WRITABLE_DEVICES = ("/dev/null", "/dev/zero")

OPEN_FILES = 64
THREADS = 64
STACK_MB = 64
SCRATCH_MB = 16


@dataclass(frozen=True)
class Limits:
    """Resources that a program may use."""

    memory_mb: int  # address space
    threads: int = THREADS  # of its user


@dataclass(frozen=True)
class Seal:
    """Rights that a box drops when it starts."""

    scratch: str = ""  # directory for a small file system in memory; empty: nothing is writable
    uid: int = 0  # user to become, as root; 0: no change
    readable: Sequence[str] = ()  # paths that stay readable, by Landlock; empty: no Landlock
    cpu: int = -1  # processor to run on; -1: any
    devices: Sequence[str] = ()  # mounts of the host's devices, whose dates anyone could change who may write to them


def seal(wanted: Seal) -> None:
    """Drop, for good, every right that neither this process nor its children need; ``OSError`` if that fails."""
    if wanted.cpu >= 0:
        os.sched_setaffinity(0, {wanted.cpu})
    if wanted.scratch:
        _mount_scratch(wanted)
    for device in wanted.devices:
        _close_device(device)
    if wanted.uid:
        _become(wanted.uid)
    # Python in root's home, and root mapped to no other user: reading past permissions has to stay.
    keep = os.geteuid() == wanted.uid and not os.access(os.__file__, os.R_OK)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities(1 << _CAP_DAC_READ_SEARCH if keep and not wanted.scratch else 0)
    if wanted.readable:
        _restrict_files(wanted.readable)
    _prctl(_SET_DUMPABLE, 0)  # no child can look into this process


def lock(limits: Limits, cpu_seconds: int, file_bytes: int, call_filter: bytes) -> None:
    """Set, in a child, the limits and the compiled system call filter (empty: none); ``OSError`` if that fails."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_SET_DUMPABLE, 1)  # it may look into itself
    for which, value in (
        (resource.RLIMIT_AS, limits.memory_mb << 20),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, limits.threads),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, STACK_MB << 20),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Programs like to raise the stack's soft limit, and the address space bounds it anyway.
        resource.setrlimit(which, (value, hard if which == resource.RLIMIT_STACK else value))
    if call_filter:
        instructions = ctypes.create_string_buffer(call_filter, len(call_filter))
        header = struct.pack("HxxxxxxP", len(call_filter) // 8, ctypes.addressof(instructions))
        _check(_LIBC.prctl(_SET_SECCOMP, _SECCOMP_FILTER, header, 0, 0))


def landlock_version() -> int:
    """Return Landlock's version in this kernel; 0 where there is none."""
    return max(0, _LIBC.syscall(_CREATE_RULESET, None, 0, _GET_VERSION))


def _mount_scratch(wanted: Seal) -> None:
    """Mount a file system in memory, limited in size and in number of files."""
    owner = wanted.uid or os.geteuid()
    options = f"size={SCRATCH_MB}m,nr_inodes=1024,mode=700,uid={owner},gid={owner}"
    _check(_LIBC.unshare(_NEW_MOUNTS))
    target = wanted.scratch.encode()
    _check(_LIBC.mount(b"tmpfs", target, b"tmpfs", ctypes.c_ulong(_NO_SUID_NO_DEV), options.encode()))


def _close_device(path: str) -> None:
    """Remount a device read-only: it can be written to as before, its dates cannot be changed."""
    flags = _REMOUNT | _BIND | _READ_ONLY | os.statvfs(path).f_flag & _LOCKED
    _check(_LIBC.mount(None, path.encode(), None, ctypes.c_ulong(flags), None))


def _become(uid: int) -> None:
    """Become a user that owns nothing and whose tasks the kernel counts."""
    _prctl(_SET_KEEPCAPS, 1)
    with contextlib.suppress(OSError):  # in a container that maps too few users, root keeps its id, without its rights
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _drop_capabilities(kept: int) -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        if not kept >> capability & 1:
            _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # fails where there is none to drop
    _LIBC.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_LIBC.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0)))


def _restrict_files(readable: Sequence[str]) -> None:
    """Give up, by Landlock, all files but these and those beneath them; requires ``NO_NEW_PRIVS``."""
    version = landlock_version()
    rights = max((bits for since, bits in _FILE_RIGHTS.items() if since <= version), default=0)
    attributes = struct.pack("QQQ", rights, _NETWORK, _SCOPES)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _check(_LIBC.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    devices = (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rights
    permitted = dict.fromkeys(readable, _READ_FILE | _READ_DIR) | dict.fromkeys(_WRITABLE_DEVICES, devices)
    for path, given in permitted.items():
        with contextlib.suppress(FileNotFoundError):
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            given &= -1 if os.path.isdir(path) else ~_READ_DIR
            _check(_LIBC.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", given, file), 0))
            os.close(file)
    _check(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _prctl(option: int, value: int) -> None:
    _check(_LIBC.prctl(option, value, 0, 0, 0))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
