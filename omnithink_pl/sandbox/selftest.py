"""Whether a box is sealed: found out by a program that tries to get out of it."""

from __future__ import annotations

import json
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

from omnithink_pl.sandbox.box import Box, Streams

# Prints the names of what it could do and should not, and of what it could not and should.
_PROBE = """
import ctypes, json, os, resource, signal, socket, threading
canary, secret, port = json.loads(input())
found = []

def attempt(name, action):
    try:
        if action() not in (False, None, -1):
            found.append(name)
    except (OSError, ValueError):
        pass

def read(path):
    with open(path, "rb") as file:
        return secret.encode() in file.read(4096) or path == "/etc/passwd"

def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)
        return True

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True

libc = ctypes.CDLL(None)
attempt("reads files of the host", lambda: read(canary))
attempt("reads /etc/passwd", lambda: read("/etc/passwd"))
attempt("reads another process", lambda: open(f"/proc/{os.getppid()}/environ", "rb").read() is not None)
attempt("reads its own memory map", lambda: open("/proc/self/maps").read() is not None)
attempt("", lambda: open(canary + ".new", "w").close())
attempt("writes to /dev/shm", lambda: open("/dev/shm/omnithink-probe", "w") is not None)
attempt("connects to the host", lambda: connect(socket.AF_INET, ("127.0.0.1", port)))
attempt("makes a local socket", lambda: socket.socket(socket.AF_UNIX) is not None)
attempt("forks", fork)
attempt("starts programs", lambda: os.execv("/bin/true", ["true"]))
attempt("signals its parent", lambda: os.kill(os.getppid(), 0) is None)
attempt("signals everything", lambda: os.kill(-1, 0) is None)
attempt("traces", lambda: libc.ptrace(16, os.getppid(), 0, 0) == 0)
attempt("makes namespaces", lambda: libc.unshare(0x10000000) == 0)
attempt("makes anonymous files", lambda: os.memfd_create("probe") >= 0)
attempt("has an environment", lambda: bool(os.environ))
attempt("has open files", lambda: os.fstat(3) is not None)
attempt("raises a limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)) is None)
attempt("is root with rights", lambda: os.chroot("/") is None)
try:
    bytearray(8 << 30)
    found.append("takes memory without limit")
except MemoryError:
    pass
ran = []
thread = threading.Thread(target=lambda: ran.append(1))
thread.start()
thread.join()
if not ran:
    found.append("cannot start a thread")
print(json.dumps(found))
"""


def leaks(box: Box) -> list[str]:
    """What a program in this box can do and should not; empty if it is sealed.

    Raises:
        BoxLost: If the box ends.
    """
    secret = secrets.token_hex(16)
    with tempfile.NamedTemporaryFile("w") as canary, socket.create_server(("127.0.0.1", 0)) as server:
        canary.write(secret)
        canary.flush()
        stdin = json.dumps([canary.name, secret, server.getsockname()[1]])
        job = {"kind": "script", "cpu_seconds": 5, "wall_seconds": 30.0, "output_bytes": 1 << 16}
        with Streams(_PROBE, stdin) as streams:
            box.submit(job, streams.files)
            report = box.reply(60.0) | {"stdout": streams.stdout, "stderr": streams.stderr}
    found = _found(report)
    written = Path(f"{canary.name}.new")
    if written.exists():
        written.unlink()
        found.append("writes files on the host")
    return found


def _found(report: dict[str, Any]) -> list[str]:
    if not report["locked"] or report["status"] != "exit 0":
        return [f"the self-test did not run: {report['status']}; {report['stderr'].strip()[-300:]}"]
    try:
        return list(json.loads(report["stdout"]))
    except json.JSONDecodeError:
        return [f"the self-test printed {report['stdout'][:100]!r}"]
