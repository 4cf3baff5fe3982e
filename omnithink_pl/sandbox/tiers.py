"""How a box is sealed: with bubblewrap, with Landlock, or not at all."""

from __future__ import annotations

import base64
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import omnithink_pl.sandbox.inside as inside
from omnithink_pl.sandbox.inside import landlock
from omnithink_pl.sandbox.inside.confine import THREADS, Limits, Seal
from omnithink_pl.sandbox.seccomp import system_call_filter

_FIRST_UID = 1_900_000_000  # far above any real user
_MORE_THREADS = 512  # where the kernel counts a program's threads together with its user's
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_LAUNCH = """
import sys, types
for name in ("omnithink_pl", "omnithink_pl.sandbox"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]]
sys.path += sys.argv[2:]
from omnithink_pl.sandbox.inside.zygote import main
main()
"""


class Tier(StrEnum):
    """How a program is kept in."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    UNSAFE = "unsafe"


@dataclass(frozen=True)
class Launch:
    """How to start a box.

    Args:
        command: The process.
        settings: What it is told first.
    """

    command: list[str]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A way to start boxes.

    Args:
        tier: How they are sealed.
        namespace: With bubblewrap: whether users are mapped, as without root; else root's own rights are used.
    """

    tier: Tier
    namespace: bool = False

    def launch(self, limits: Limits, packages: tuple[str, ...], cpu: int, number: int) -> Launch:
        """How to start a box.

        Args:
            limits: What a program may use.
            packages: Further packages that programs may import.
            cpu: The processor to keep to.
            number: Tells this process's boxes apart.

        Raises:
            OSError: If what the tier needs is missing; says what.
        """
        found = {name: spec.submodule_search_locations[0] for name in packages if (spec := _package(name))}
        settings = {
            "limits": asdict(self._limits(limits)),
            "seal": asdict(self._seal(cpu, number)),
            "filter": base64.b64encode(self._filter()).decode(),
            "packages": list(found),
        }
        python = [str(_interpreter()), "-S", "-P", "-B", "-X", "utf8", "-c", _LAUNCH]
        if self.tier is not Tier.BUBBLEWRAP:
            return Launch([*python, str(_room()), *{str(Path(path).parent) for path in found.values()}], settings)
        box = [*_bubblewrap(self.namespace), "--ro-bind", f"{_room()}/inside", "/box/inside"]
        for name, path in found.items():
            box += ["--ro-bind", path, f"/packages/{name}"]
        return Launch([*box, "--remount-ro", "/", "--chdir", "/", "--", *python, "/box", "/packages"], settings)

    def _limits(self, limits: Limits) -> Limits:
        if self.tier is Tier.BUBBLEWRAP or os.geteuid() == 0:
            return limits
        return Limits(limits.memory_mb, THREADS + _MORE_THREADS + _threads_of(os.getuid()))

    def _seal(self, cpu: int, number: int) -> Seal:
        root = os.geteuid() == 0 and not self.namespace
        uid = _FIRST_UID + os.getpid() % 10_000_000 * 8 + number % 8 if root else 0
        match self.tier:
            case Tier.BUBBLEWRAP:
                return Seal(scratch="/tmp", uid=uid, cpu=cpu)
            case Tier.LANDLOCK:
                return Seal(uid=uid, readable=(*_SYSTEM, *_DEVICES, *map(str, _library())), cpu=cpu)
        return Seal(uid=uid, cpu=cpu)

    def _filter(self) -> bytes:
        try:
            return system_call_filter()
        except OSError as error:
            if self.tier is Tier.UNSAFE:
                return b""
            raise OSError(f"libseccomp is missing ({error}); apt-get install libseccomp2") from error


def plans(tier: str) -> list[Plan]:
    """What to try, the best first.

    Args:
        tier: The name of a :class:`Tier`, or ``auto`` for every safe one.
    """
    with_namespace = [Plan(Tier.BUBBLEWRAP, True)]
    bubblewrap = [Plan(Tier.BUBBLEWRAP), *with_namespace] if os.geteuid() == 0 else with_namespace
    safe = [*bubblewrap, Plan(Tier.LANDLOCK)]
    return safe if tier == "auto" else [plan for plan in safe if plan.tier == tier]


def missing(plan: Plan) -> str:
    """What a plan needs and does not find; empty if nothing."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if plan.tier is Tier.BUBBLEWRAP and shutil.which("bwrap") is None:
        return "bwrap is not installed; as root: apt-get install bubblewrap"
    if plan.tier is Tier.LANDLOCK and landlock.version() < 1:
        return "the kernel has no Landlock (since 5.13), or it is switched off"
    return ""


def _bubblewrap(namespace: bool) -> list[str]:
    """The command up to what a box contains of ours: no network, no /proc, nothing writable but /tmp."""
    command = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--hostname", "box", "--clearenv"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
    if namespace:  # capabilities count inside only, and are dropped before a program runs
        command += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    else:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    made: dict[Path, bool] = {}  # whether all of it is shown, or it is only a parent
    for path in [*map(Path, _SYSTEM), *_library()[::-1], _interpreter()]:
        command += _bind(path, made)
    for packages in _library()[0].glob("site-packages"):  # what is installed beside it is no program's business
        command += ["--tmpfs", str(packages), "--remount-ro", str(packages)]
    command += ["--perms", "0755", "--dir", "/dev"]
    for device in _DEVICES:
        command += ["--dev-bind", device, device]
    command += ["--symlink", "/tmp/stdin", "/dev/stdin", "--perms", "0700", "--size", str(16 << 20), "--tmpfs", "/tmp"]
    return [*command, "--perms", "0755", "--dir", "/box"]


def _bind(path: Path, made: dict[Path, bool]) -> list[str]:
    """Show a path read-only. Its parents are made here: bubblewrap would close them to others."""
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
    """The interpreter itself, not a virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _library() -> list[Path]:
    """Python's own library and, where it lies outside the system's, what lies beside it for it to load."""
    library = Path(os.__file__).resolve().parent
    beside = library.parent
    return [library] if str(beside) in _SYSTEM else [library, beside]


def _package(name: str) -> Any:
    spec = find_spec(name)
    return spec if spec is not None and spec.submodule_search_locations else None


def _room() -> Path:
    return Path(inside.__path__[0]).resolve().parent


def _threads_of(uid: int) -> int:
    """Threads that a user has now."""
    count = 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        try:
            count += len(list(tasks.iterdir())) if tasks.stat().st_uid == uid else 0
        except OSError:
            continue  # it has just ended
    return count
