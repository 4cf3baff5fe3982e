"""Giving up rights: once when a box starts, and again in the child that runs one program."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from dataclasses import dataclass

from omnithink_pl.sandbox.inside import landlock

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_KEEPCAPS, _SET_SECCOMP = 1, 4, 8, 22  # <linux/prctl.h>
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_SECCOMP_FILTER = 2
_CAPABILITY_VERSION_3, _CAP_DAC_READ_SEARCH, _LAST_CAPABILITY = 0x20080522, 2, 63  # <linux/capability.h>
_NEW_MOUNTS, _NO_SUID_NO_DEV = 0x20000, 6
OPEN_FILES = 64
THREADS = 64
STACK_MB = 64


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        memory_mb: Address space.
        threads: Tasks of its user.
    """

    memory_mb: int
    threads: int = THREADS


@dataclass(frozen=True)
class Seal:
    """What a box gives up when it starts.

    Args:
        scratch: Directory for a small file system of its own; empty: nothing can be written.
        scratch_mb: Size of that.
        uid: User to become, as root; 0: stay who one is.
        readable: With Landlock: what stays readable. Empty: no Landlock.
        cpu: The processor to keep to; -1: any.
    """

    scratch: str = ""
    scratch_mb: int = 16
    uid: int = 0
    readable: tuple[str, ...] = ()
    cpu: int = -1


def seal(wanted: Seal) -> None:
    """Give up, for good, what neither this process nor its children need.

    Raises:
        OSError: If the kernel refuses.
    """
    if wanted.cpu >= 0:
        os.sched_setaffinity(0, {wanted.cpu})
    if wanted.scratch:
        _mount_scratch(wanted)
    if wanted.uid:
        _become(wanted.uid)
    keep = os.geteuid() == wanted.uid and not os.access(os.__file__, os.R_OK)  # Python in root's home
    prctl(_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities(1 << _CAP_DAC_READ_SEARCH if keep and not wanted.scratch else 0)
    if wanted.readable:
        landlock.restrict(wanted.readable, ("/dev/null", "/dev/zero"))
    prctl(_SET_DUMPABLE, 0)  # no child can look into this process


def lock(limits: Limits, cpu_seconds: int, file_bytes: int, program: bytes) -> None:
    """In a child: set the limits and the filter of system calls under which a program runs.

    Args:
        limits: What it may use.
        cpu_seconds: Processor time.
        file_bytes: Size of any file, and of what it prints.
        program: The filter, as the kernel takes it; empty: none.

    Raises:
        OSError: If the kernel refuses.
    """
    prctl(_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_SET_DUMPABLE, 1)  # it may look into itself
    for which, value in (
        (resource.RLIMIT_AS, limits.memory_mb << 20),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, limits.threads),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _limit(which, value)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)  # programs like to raise it; memory bounds it anyway
    wanted = STACK_MB << 20
    resource.setrlimit(resource.RLIMIT_STACK, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    if program:
        _filter(program)


def _limit(which: int, value: int) -> None:
    """Lower a resource limit for good; one that is lower already stays."""
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _mount_scratch(wanted: Seal) -> None:
    """A file system in memory, limited in size and in number of files."""
    owner = wanted.uid or os.geteuid()
    options = f"size={wanted.scratch_mb}m,nr_inodes=1024,mode=700,uid={owner},gid={owner}"
    _check(_LIBC.unshare(_NEW_MOUNTS))
    target = wanted.scratch.encode()
    _check(_LIBC.mount(b"tmpfs", target, b"tmpfs", ctypes.c_ulong(_NO_SUID_NO_DEV), options.encode()))


def _become(uid: int) -> None:
    """Become a user whose tasks the kernel counts and who owns nothing.

    In a container that maps too few users, root stays who it is there, without its rights.
    """
    prctl(_SET_KEEPCAPS, 1)
    with contextlib.suppress(OSError):
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


def _filter(program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    _check(_LIBC.prctl(_SET_SECCOMP, _SECCOMP_FILTER, header, 0, 0))


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    _check(_LIBC.prctl(option, value, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
