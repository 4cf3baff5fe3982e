"""The filter of system calls under which a program runs, compiled by libseccomp, which knows every architecture.

Its own Python binding is not on PyPI and the substitute there has had no release since 2021, so its five functions are
called directly. Not covered: holes in a permitted call.
"""

from __future__ import annotations

import ctypes
import errno
import tempfile
from functools import cache

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FORBID = _ERRNO | errno.EPERM
_OPTIMIZE, _TREE = 8, 2
_EQUAL, _MASKED_EQUAL = 4, 7
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020080  # one of our own tasks; any new namespace
_UNIX, _STREAM, _KIND_MASK = 1, 1, 0xF
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # duplicate, flags, locks; nothing that sends signals
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal; blocking; close-on-exec

_FILES = """
read write readv writev pread64 pwrite64 preadv pwritev lseek _llseek close close_range dup dup2 dup3 pipe pipe2
open openat stat fstat lstat newfstatat fstatat64 statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
getcwd chdir fchdir getdents getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat
symlink symlinkat truncate ftruncate chmod fchmod fchmodat utimensat umask fsync fdatasync flock sendfile
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
setpgid chroot mount umount2 unshare setns chown fchown lchown fchownat mknod mknodat setrlimit
"""


class _Condition(ctypes.Structure):
    """``struct scmp_arg_cmp``: number of the argument, comparison, and what it is compared with (or mask and value)."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


# Calls that depend on their arguments: action, name, conditions that must all hold.
_CONDITIONAL = [
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


@cache
def system_call_filter() -> bytes:
    """Return the filter as this kernel takes it; ``OSError`` if libseccomp is not installed or refuses a rule."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.ENOSYS))
    library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_TREE))  # only makes it faster; since 2.5
    rules: list[tuple[int, str, list[_Condition]]] = [(_ALLOW, name, []) for name in (_FILES + _SELF).split()]
    rules += [(_FORBID, name, []) for name in _FORBIDDEN.split()]
    try:
        for action, name, conditions in rules + _CONDITIONAL:
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


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, "libseccomp refused a rule")
