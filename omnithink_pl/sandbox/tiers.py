"""How a box is sealed (with bubblewrap, with Landlock, or not at all) and the self-test that has to find it sealed."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

import omnithink_pl.sandbox.inside as inside
from omnithink_pl.sandbox.box import Box, Streams
from omnithink_pl.sandbox.inside.confine import SCRATCH_MB, THREADS, Limits, Seal, landlock_version
from omnithink_pl.sandbox.packages import package_files
from omnithink_pl.sandbox.seccomp import forbidden_metadata_calls, system_call_filter

_FIRST_UID = 1_900_000_000  # far above any real user
_MORE_THREADS = 512  # where the kernel counts a program's threads together with its user's others
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
# The package is bound to /box/inside. Empty parent modules keep the rest of ours out of the box.
_LAUNCH = """
import sys, types
for name in ("omnithink_pl", "omnithink_pl.sandbox"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]]
from omnithink_pl.sandbox.inside.fork_server import main
main()
"""


class Tier(StrEnum):
    """How a program is kept in its box."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    UNSAFE = "unsafe"


@dataclass(frozen=True)
class Plan:
    """A way to start boxes."""

    tier: Tier
    namespace: bool = False  # with bubblewrap: whether users are mapped, as without root; else root's rights are used

    def start(self, limits: Limits, packages: Sequence[str], cpu: int, number: int) -> Box:
        """Start a box on a processor, with the packages that are installed; ``number`` tells our boxes apart.

        Raises:
            BoxLost: If it does not start; says why.
            OSError: If something that the tier needs is missing; says what.
        """
        found, in_box = package_files(tuple(packages)), self.tier is Tier.BUBBLEWRAP
        if not in_box and os.geteuid() != 0:  # its user's other threads count too
            limits = replace(limits, threads=THREADS + _MORE_THREADS + _threads_of(os.getuid()))
        settings = {
            "limits": asdict(limits),
            "seal": asdict(self._seal(cpu, number, tuple(found.values()))),
            "filter": base64.b64encode(self._filter()).decode(),
            "packages": [name for name in packages if name in found],
            "folders": {name: "/packages" if in_box else str(Path(path).parent) for name, path in found.items()},
        }
        python = [str(_interpreter()), "-S", "-P", "-B", "-X", "utf8", "-c", _LAUNCH]
        folder = Path(inside.__path__[0]).resolve()
        if not in_box:
            return Box([*python, str(folder.parent)], settings)
        command = [*_bubblewrap(self.namespace), "--ro-bind", str(folder), "/box/inside"]
        for name, path in found.items():
            command += ["--ro-bind", path, f"/packages/{name}{'' if Path(path).is_dir() else Path(path).suffix}"]
        return Box([*command, "--remount-ro", "/", "--chdir", "/", "--", *python, "/box"], settings)

    def _seal(self, cpu: int, number: int, packages: Sequence[str]) -> Seal:
        as_root = os.geteuid() == 0 and not self.namespace
        uid = _FIRST_UID + os.getpid() % 10_000_000 * 8 + number % 8 if as_root else 0
        paths = (*_SYSTEM, *_DEVICES, *map(str, _library()), *packages)
        readable = paths if self.tier is Tier.LANDLOCK else ()
        return Seal("/tmp", uid, (), cpu, _DEVICES) if self.own_files else Seal("", uid, readable, cpu)

    @property
    def own_files(self) -> bool:
        """Whether programs have a file system of their own, and see all others read-only."""
        return self.tier is Tier.BUBBLEWRAP

    def _filter(self) -> bytes:
        try:
            return system_call_filter(self.own_files)
        except OSError as error:
            if self.tier is Tier.UNSAFE:
                return b""
            raise OSError(f"libseccomp is missing ({error}); apt-get install libseccomp2") from error


def plans(tier: str) -> list[Plan]:
    """Return the plans to try for a tier's name, or for ``auto`` every safe one, the best first."""
    as_root = [Plan(Tier.BUBBLEWRAP)] if os.geteuid() == 0 else []
    safe = [*as_root, Plan(Tier.BUBBLEWRAP, namespace=True), Plan(Tier.LANDLOCK)]
    return [plan for plan in safe if tier in ("auto", plan.tier)]


def missing(plan: Plan) -> str:
    """Return what a plan needs and does not find; empty if nothing."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if plan.tier is Tier.BUBBLEWRAP and shutil.which("bwrap") is None:
        return "bwrap is not installed; as root: apt-get install bubblewrap"
    if plan.tier is Tier.LANDLOCK and landlock_version() < 1:
        return "the kernel has no Landlock (since 5.13), or it is switched off"
    return ""


def _bubblewrap(namespace: bool) -> list[str]:
    """Return the command up to our own files: no network, no /proc, nothing writable but /tmp."""
    command = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--hostname", "box", "--clearenv"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
    if namespace:  # capabilities count inside only, and are dropped before a program runs
        command += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    else:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    made: dict[Path, bool] = {}  # whether all of it is bound, or it is only a parent
    for path in [*map(Path, _SYSTEM), *_library()[::-1], _interpreter()]:
        command += _bind(path, made)
    for packages in _library()[0].glob("site-packages"):  # installed packages are no program's business
        command += ["--tmpfs", str(packages), "--remount-ro", str(packages)]
    command += ["--perms", "0755", "--dir", "/dev"]
    for device in _DEVICES:
        command += ["--dev-bind", device, device]
    command += ["--symlink", "/tmp/stdin", "/dev/stdin"]
    command += ["--perms", "0700", "--size", str(SCRATCH_MB << 20), "--tmpfs", "/tmp"]
    return [*command, "--perms", "0755", "--dir", "/box", "--perms", "0755", "--dir", "/packages"]


def _bind(path: Path, made: dict[Path, bool]) -> list[str]:
    """Bind a path read-only. Its parents are made here: bubblewrap would make them readable by their owner only."""
    if not path.exists() or any(made.get(parent, False) for parent in path.parents):
        return []
    if path.is_symlink() and len(path.parts) == 2:  # /lib -> usr/lib
        return ["--symlink", str(path.readlink()), str(path)]
    command = []
    for parent in [*path.parents][-2::-1]:
        if parent not in made:
            command += ["--perms", "0755", "--dir", str(parent)]
            made[parent] = False
    made[path] = True
    return [*command, "--ro-bind", str(path), str(path)]


def _interpreter() -> Path:
    """Return the interpreter itself, not a virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _library() -> list[Path]:
    """Return Python's own library and, where it lies outside the system's, the folder that it loads libraries from."""
    library = Path(os.__file__).resolve().parent
    return [library] if str(library.parent) in _SYSTEM else [library, library.parent]


def _threads_of(uid: int) -> int:
    """Count the threads that a user has now."""
    count = 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):  # it has just ended
            count += len(list(tasks.iterdir())) if tasks.stat().st_uid == uid else 0
    return count


# Prints what it could do and should not, and what it could not and should.
_PROBE = """
import ctypes, errno, json, os, resource, signal, socket, threading
canary, secret, port, calls = json.loads(input())
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

def change_by_descriptor():
    with open(os.__file__) as file:
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode)
    return True

def permitted(number):  # a call that is permitted finds fault with these arguments
    libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    return ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)

libc = ctypes.CDLL(None, use_errno=True)
for name, number in calls.items():
    attempt(f"may call {name}", lambda: permitted(number))
for change in (
    lambda: os.chmod(canary, 0o777),
    lambda: os.utime(canary, (1, 1)),
    lambda: os.chown(canary, -1, os.getgid()),
    lambda: os.setxattr(canary, "user.probe", b"1"),
    lambda: os.truncate(canary, 0),
    lambda: os.open(canary, os.O_RDONLY | os.O_TRUNC),
):
    attempt("", change)
attempt("changes a file by its descriptor", change_by_descriptor)
attempt("changes the dates of a device", lambda: os.utime("/dev/null") is None)
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


def find_leaks(plan: Plan, box: Box) -> list[str]:
    """Return what a program in a box of this plan can do and should not; raises ``BoxLost`` if the box ends."""
    secret = secrets.token_hex(16)
    with tempfile.NamedTemporaryFile("w") as canary, socket.create_server(("127.0.0.1", 0)) as server:
        canary.write(secret)
        canary.flush()
        before = _metadata(canary.name)
        calls = forbidden_metadata_calls(plan.own_files)
        stdin = json.dumps([canary.name, secret, server.getsockname()[1], calls])
        job = {"kind": "script", "cpu_seconds": 5, "wall_seconds": 30.0, "output_bytes": 1 << 16}
        with Streams(_PROBE, stdin) as streams:
            box.submit(job, streams.files)
            report, stdout, stderr = box.reply(60.0), streams.stdout, streams.stderr
        on_host = ["changes files on the host"] if _metadata(canary.name) != before else []
    written = Path(f"{canary.name}.new")
    on_host += ["writes files on the host"] if written.exists() else []
    written.unlink(missing_ok=True)
    if not report["locked"] or report["status"] != "exit 0":
        return [*on_host, f"the self-test did not run: {report['status']}; {stderr.strip()[-300:]}"]
    try:
        return [*on_host, *json.loads(stdout)]
    except json.JSONDecodeError:
        return [*on_host, f"the self-test printed {stdout[:100]!r}"]


def _metadata(path: str) -> tuple[object, ...]:
    """Return what a program must not change of a file; not when it was last read, or an attribute was asked for."""
    status = Path(path).stat()
    return status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns
