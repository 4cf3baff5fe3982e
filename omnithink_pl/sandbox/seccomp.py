"""The filter of system calls under which a program runs, compiled by libseccomp, which knows every architecture.

Its own Python binding is not on PyPI and the substitute there has had no release since 2021, so its five functions are
called directly. Not covered: holes in a permitted call.

Landlock leaves a file's metadata alone, and before its version 3 truncation: by itself it would let a program change
mode, owner, dates and attributes of whatever its user owns. So where programs have no files of their own, no call that
does so is permitted.
"""

from __future__ import annotations

import ctypes
import errno
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import TypeAlias

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FORBID, _UNSUPPORTED = _ERRNO | errno.EPERM, _ERRNO | errno.ENOTSUP
_NATIVE = 0  # architecture
_OPTIMIZE, _TREE = 8, 2
_EQUAL, _MASKED_EQUAL = 4, 7
_READ_ONLY, _WRITE_ONLY, _READ_WRITE, _NEITHER = range(4)  # of an open file
_ACCESS, _TRUNCATE = 3, 0o1000  # bits of the flags of open
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020080  # one of our own tasks; any new namespace
_UNIX, _STREAM, _KIND_MASK = 1, 1, 0xF
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # duplicate, flags, locks; nothing that sends signals
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal; blocking; close-on-exec

_FILES = """
read write readv writev pread64 pwrite64 preadv pwritev lseek _llseek close close_range dup dup2 dup3 pipe pipe2
stat fstat lstat newfstatat fstatat64 statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
getcwd chdir fchdir getdents getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat
symlink symlinkat ftruncate umask fsync fdatasync flock sendfile
copy_file_range fadvise64 poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
eventfd2 recvfrom shutdown getsockopt
"""
_SELF = """
mmap munmap mprotect mremap madvise brk mincore membarrier rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait
rt_sigsuspend rt_sigpending sigaltstack pause alarm setitimer getitimer nanosleep clock_nanosleep clock_gettime
clock_getres gettimeofday time times getrusage sysinfo uname getpid gettid getppid getpgrp getuid geteuid getgid
getegid getresuid getresgid getgroups getrandom getcpu futex set_robust_list set_tid_address rseq restart_syscall
sched_yield getrlimit exit exit_group
"""
# These fail with EPERM, as on any system that forbids them; a call that is named nowhere does not exist (ENOSYS).
_FORBIDDEN = """
fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal
pidfd_getfd socket connect bind listen accept accept4 sendmsg sendmmsg recvmsg recvmmsg ptrace process_vm_readv
process_vm_writev memfd_create memfd_secret shmget shmat semget msgget mq_open setpriority sched_setaffinity
sched_setscheduler sched_setattr ioprio_set setuid setgid setreuid setregid setresuid setresgid setgroups setsid
setpgid chroot mount umount2 unshare setns mknod mknodat setrlimit
"""
# Change a file's mode, dates or length, which a program may do to files of its own ...
_OWN = "chmod fchmod fchmodat utimensat truncate"
# ... and its owner, attributes or flags, or the same by other numbers, which none may do.
_METADATA = """
fchmodat2 utime utimes futimesat chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat removexattr
lremovexattr fremovexattr removexattrat file_setattr
"""
# "There are none here": shutil.copy2 takes no other error.
_ATTRIBUTES = "listxattr llistxattr flistxattr listxattrat getxattr lgetxattr fgetxattr getxattrat file_getattr"
# Newer than some libseccomp; since 424 a call has one number on all architectures.
_NEW = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}


class _Condition(ctypes.Structure):
    """``struct scmp_arg_cmp``: number of the argument, comparison, and what it is compared with (or mask and value)."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


_Rule: TypeAlias = tuple[int, str, list[_Condition]]  # action, name, conditions on arguments that must all hold
_CONDITIONAL: list[_Rule] = [
    (_ALLOW, "clone", [_Condition(0, _MASKED_EQUAL, _CLONE_THREAD | _CLONE_NEW, _CLONE_THREAD)]),
    (_FORBID, "clone", [_Condition(0, _MASKED_EQUAL, _CLONE_THREAD, 0)]),
    *((_ALLOW, "fcntl", [_Condition(1, _EQUAL, command, 0)]) for command in _FCNTL),
    *((_ALLOW, "ioctl", [_Condition(1, _EQUAL, command, 0)]) for command in _IOCTL),
    # Event loops wake themselves up over such a pair; without an address it reaches nothing else.
    (_ALLOW, "socketpair", [_Condition(0, _EQUAL, _UNIX, 0), _Condition(1, _MASKED_EQUAL, _KIND_MASK, _STREAM)]),
    (_ALLOW, "sendto", [_Condition(4, _EQUAL, 0, 0)]),
    (_ALLOW, "prlimit64", [_Condition(0, _EQUAL, 0, 0)]),
    (_ALLOW, "sched_getaffinity", [_Condition(0, _EQUAL, 0, 0)]),
]


def _opening(own_files: bool) -> Iterator[_Rule]:
    """Yield the rules of ``open``: Landlock looks at what is written to, and not at what is truncated unwritten."""
    for name, flags in (("open", 1), ("openat", 2)):
        if own_files:
            yield _ALLOW, name, []
            continue
        yield _ALLOW, name, [_Condition(flags, _MASKED_EQUAL, _TRUNCATE, 0)]
        for access in (_READ_ONLY, _WRITE_ONLY, _READ_WRITE, _NEITHER):
            action = _ALLOW if access in (_WRITE_ONLY, _READ_WRITE) else _FORBID
            yield action, name, [_Condition(flags, _MASKED_EQUAL, _TRUNCATE | _ACCESS, _TRUNCATE | access)]


def _rules(own_files: bool) -> Iterator[_Rule]:
    """Yield every rule of a filter."""
    actions = {
        _ALLOW: f"{_FILES} {_SELF}",
        _FORBID: f"{_FORBIDDEN} {_METADATA}",
        _UNSUPPORTED: _ATTRIBUTES,
    }
    actions[_ALLOW if own_files else _FORBID] += _OWN
    for action, names in actions.items():
        yield from ((action, name, []) for name in names.split())
    yield from _opening(own_files)
    yield from _CONDITIONAL


@cache
def system_call_filter(own_files: bool, architecture: int = _NATIVE) -> bytes:
    """Compile a filter.

    Args:
        own_files: Whether the programs have a file system of their own, and see others read-only. They may change the
            mode and dates of files there; elsewhere of none.
        architecture: Whose calls, as libseccomp and the kernel's audit number it; this machine's if not given.

    Raises:
        OSError: If libseccomp is not installed or refuses a rule.
    """
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.ENOSYS))
    library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_TREE))  # only makes it faster; since 2.5
    try:
        if architecture != _NATIVE:
            _check(library.seccomp_arch_remove(context, _NATIVE))
            _check(library.seccomp_arch_add(context, ctypes.c_uint32(architecture)))
        for action, name, conditions in _rules(own_files):
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:  # else it is not on this architecture
                array, count = (_Condition * len(conditions))(*conditions), len(conditions)
                _check(library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, count, array))
        with tempfile.TemporaryFile() as file:
            _check(library.seccomp_export_bpf(context, file.fileno()))
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def forbidden_metadata_calls(own_files: bool) -> dict[str, int]:
    """Return the numbers, on this machine, of the calls that change metadata and that the filter refuses, by name."""
    library = ctypes.CDLL("libseccomp.so.2")
    names = _METADATA.split() + ([] if own_files else _OWN.split())
    numbers = {name: library.seccomp_syscall_resolve_name(name.encode()) for name in names}
    return {name: number for name, number in (numbers | _NEW).items() if number >= 0}


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, "libseccomp refused a rule")
