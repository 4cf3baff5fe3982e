"""A small process that forks a confined child for every run of a program.

Started as a file by :mod:`omnithink_pl.sandbox.subprocess`, with an interpreter that knows no
site-packages; imports nothing of ours. Starting Python once and forking is what makes a run cost
milliseconds. Each line of JSON that it reads is one program, of either kind::

    {"program": str, "inputs": [str, ...]}               one run per input, until one ends badly
    {"program": str, "tests": str, "token": str}         one run; prints the token after the tests

and each line that it answers is the list of runs, ``{"status", "stdout", "stderr", "seconds"}``, status
being ``exit <code>``, ``signal <number>``, ``timeout`` or ``output limit``. No expected output ever
enters this process: a program, being forked from it, could read it in its own memory.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import ctypes
import gc
import itertools
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Job = dict[str, Any]

# What programs written for judging sites use without importing it.
PRELUDE = """
import abc, array, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import heapq, io, itertools, json, math, operator, os, queue, random, re, statistics, string, sys, threading
import time, typing
from bisect import bisect_left, bisect_right, insort
from collections import Counter, OrderedDict, defaultdict, deque
from functools import cache, cmp_to_key, lru_cache, reduce
from heapq import heapify, heappop, heappush, heappushpop, heapreplace, nlargest, nsmallest
from itertools import accumulate, chain, combinations, groupby, permutations, product
from math import ceil, comb, factorial, floor, gcd, inf, log, log2, sqrt
from typing import *
from sys import exit
from sys import exit as quit
"""
LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)
SET_PDEATHSIG, SET_DUMPABLE, SET_KEEPCAPS = 1, 4, 8  # <linux/prctl.h>
SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS = 36, 38
CAPABILITY_VERSION_3, CAP_DAC_READ_SEARCH = 0x20080522, 2  # <linux/capability.h>
FIRST_UID = 1_900_000_000  # far above any real user
STDERR_BYTES = 2000
SELF_TEST = json.dumps({"program": "print(os.listdir())", "inputs": [""]}).encode()


@dataclass(frozen=True)
class Limits:
    """What a program may use: see :class:`SubprocessSandbox`."""

    seconds: float
    memory_mb: int
    output_bytes: int
    stack_mb: int = 64
    open_files: int = 64
    processes: int = 32


class Run:
    """The three files that are a run's standard streams."""

    def __init__(self, stdin: str) -> None:
        self.streams = [tempfile.TemporaryFile() for _ in range(3)]
        self.streams[0].write(stdin.encode(errors="replace"))
        self.streams[0].seek(0)

    def connect(self) -> None:
        """In the child: make them its only open files."""
        for number, stream in enumerate(self.streams):
            os.dup2(stream.fileno(), number)
        os.closerange(3, 256)

    def report(self, status: str, output_bytes: int) -> dict[str, Any]:
        """In the server: what the run left behind."""
        _, stdout, stderr = (stream.fileno() for stream in self.streams)
        sizes = [os.fstat(file).st_size for file in (stdout, stderr)]
        if status != "timeout" and sizes[0] >= output_bytes:
            status = "output limit"
        texts = [
            os.pread(stdout, sizes[0], 0),
            os.pread(stderr, STDERR_BYTES, max(0, sizes[1] - STDERR_BYTES)),
        ]
        for stream in self.streams:
            stream.close()
        out, err = (text.decode(errors="replace") for text in texts)
        return {"status": status, "stdout": out, "stderr": err}


def serve(limits: Limits) -> Job:
    """Answer requests until standard input ends. Returns in the children only, with what to run.

    The first request is our own: where confinement itself fails, no program shall be blamed for it.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for line in itertools.chain([SELF_TEST], requests):
        job = json.loads(line)
        directory = tempfile.mkdtemp()
        deadline = time.monotonic() + limits.seconds
        reports: list[dict[str, Any]] = []
        for stdin in job.get("inputs", [""]):
            start, run = time.monotonic(), Run(stdin)
            pid = os.fork()
            if pid == 0:
                run.connect()
                confine(directory, limits)
                return job
            report = run.report(wait(pid, deadline - start), limits.output_bytes)
            reports.append(report | {"seconds": time.monotonic() - start})
            if reports[-1]["status"] != "exit 0":
                break
        shutil.rmtree(directory, ignore_errors=True)
        if line is SELF_TEST and reports[0]["stdout"] != "[]\n":
            sys.exit(f"a confined program cannot run here: {reports[0]}")
        replies.write(json.dumps("ready" if line is SELF_TEST else reports).encode() + b"\n")
        replies.flush()
    sys.exit()


def wait(pid: int, seconds: float) -> str:
    """Wait for a child, but not for longer; leave nothing of it running."""
    expired = []

    def expire(*_: object) -> None:
        expired.append(True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS forbids it for the dead
        os.killpg(pid, signal.SIGKILL)
    end_orphans()
    return "timeout" if expired else f"exit {code}" if code >= 0 else f"signal {-code}"


def end_orphans() -> None:
    """Kill processes that a program left behind in other groups; they have become our children."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for status in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if status.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                        os.kill(int(status.parent.name), signal.SIGKILL)


def confine(directory: str, limits: Limits) -> None:
    """In the child: give up what a program does not need."""
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    if os.geteuid() == 0:
        become_nobody(directory, FIRST_UID + os.getppid())
    prctl(SET_DUMPABLE, 1)
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    prctl(SET_NO_NEW_PRIVS, 1)
    if LINUX:
        limit(resource.RLIMIT_AS, limits.memory_mb << 20)
    for which, value in (
        (resource.RLIMIT_CPU, int(limits.seconds) + 1),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_STACK, limits.stack_mb << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        limit(which, value)


def limit(which: int, value: int) -> None:
    """Lower a resource limit for good; one that is lower already stays."""
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def become_nobody(directory: str, uid: int) -> None:
    """As root only: become a user whose processes the kernel counts and who may signal nobody.

    Where Python's library lies in a directory that only root may enter, the right to read stays.
    In a container that maps too few users, root stays what it is there.
    """
    prctl(SET_KEEPCAPS, 1)
    try:
        os.chown(directory, uid, uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return
    kept = 0 if os.access(os.__file__, os.R_OK) else 1 << CAP_DAC_READ_SEARCH
    if LINUX:
        LIBC.capset(struct.pack("Ii", CAPABILITY_VERSION_3, 0), struct.pack("6I", kept, kept, 0, 0, 0, 0))


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, on Linux."""
    if LINUX:
        LIBC.prctl(option, value, 0, 0, 0)


def processes_of(uid: int) -> int:
    """Threads that a user has now: the kernel counts a program's together with them. 0 for root."""
    if uid == 0 or not LINUX:
        return 0
    count = 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        with contextlib.suppress(OSError):
            count += len(list(tasks.iterdir())) if tasks.stat().st_uid == uid else 0
    return count


def execute(job: Job) -> None:
    """In the child: run the program, and its tests where they are part of the job.

    A program with tests is a module to be imported, so that its ``__main__`` block stays quiet.
    """
    module = types.ModuleType("solution" if "tests" in job else "__main__")
    sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    sys.excepthook = print_and_leave
    random.seed(0)  # forking has just seeded it anew
    try:
        exec(compile(job["program"], "program.py", "exec"), module.__dict__)
        if "tests" in job:
            exec(compile(job["tests"], "tests.py", "exec"), module.__dict__)
            sys.stdout.flush()
            os.write(1, job["token"].encode())
    except SystemExit as end:
        leave(exit_code(end))
    leave(0)


def exit_code(end: SystemExit) -> int:
    """What Python makes of ``sys.exit(...)``: nothing is 0, a message is 1."""
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1


def print_and_leave(*error: Any) -> None:
    """End a program that raised, as Python does."""
    sys.__excepthook__(*error)
    leave(1)


def leave(code: int) -> None:
    """End as Python does, but without tearing the interpreter down, which takes longer than the run."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(limits: Limits) -> None:
    """Serve; in a child, run one program."""
    prctl(SET_DUMPABLE, 0)  # a program of the same user cannot look into this process
    prctl(SET_CHILD_SUBREAPER, 1)
    exec(PRELUDE, builtins.__dict__)
    gc.freeze()
    limits = replace(limits, processes=limits.processes + processes_of(os.getuid()))
    execute(serve(limits))


if __name__ == "__main__":
    main(Limits(**json.loads(sys.argv[1])))
