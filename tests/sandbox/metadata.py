"""Have a program try every call that changes a file, on files of whoever runs this, and print what it changed.

The calls stand here by their numbers in the kernel's tables, apart from those of the filter and of libseccomp.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests

_SINCE_424 = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
NUMBERS = {
    "x86_64": _SINCE_424
    | {"truncate": 76, "creat": 85, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132}
    | {"setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198}
    | {"fremovexattr": 199, "utimes": 235, "fchownat": 260, "futimesat": 261, "fchmodat": 268, "utimensat": 280},
    "aarch64": _SINCE_424
    | {"setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16}
    | {"truncate": 45, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88},
}
PROGRAM = """
import ctypes, json, os, struct
path, numbers = json.loads(input())
libc = ctypes.CDLL(None, use_errno=True)
here, empty = -100, 0x1000  # AT_FDCWD, AT_EMPTY_PATH
value = ctypes.create_string_buffer(b"1")
attribute = struct.pack("QII", ctypes.addressof(value), 1, 0)
flags = struct.pack("Q16x", 0x80)  # do not change when it was read

def try_all(name, opened):
    by_path = {
        "chmod": [0o777], "truncate": [1], "chown": [-1, os.getgid()], "lchown": [-1, os.getgid()],
        "setxattr": [b"user.a", b"1", 1, 0], "lsetxattr": [b"user.b", b"1", 1, 0], "creat": [0o777],
        "removexattr": [b"user.kept"], "lremovexattr": [b"user.kept"], "utime": [bytes(16)], "utimes": [bytes(32)],
    }
    by_folder = {
        "fchmodat": [0o777], "fchmodat2": [0o777, 0], "fchownat": [-1, os.getgid(), 0], "futimesat": [bytes(32)],
        "utimensat": [bytes(32), 0], "setxattrat": [0, b"user.c", attribute, 16], "removexattrat": [0, b"user.kept"],
        "file_setattr": [flags, 24, 0],
    }
    by_descriptor = {
        "fchmod": [0o777], "fchown": [-1, os.getgid()], "fsetxattr": [b"user.d", b"1", 1, 0],
        "fremovexattr": [b"user.kept"], "utimensat": [None, bytes(32), 0],
    }
    by_empty_path = {
        "fchmodat2": [0o777, empty], "fchownat": [-1, os.getgid(), empty], "utimensat": [bytes(32), empty],
        "setxattrat": [empty, b"user.e", attribute, 16],
    }
    attempts = [(call, name, *rest) for call, rest in by_path.items()]
    attempts += [(call, here, name, *rest) for call, rest in by_folder.items()]
    attempts += [(call, opened, *rest) for call, rest in by_descriptor.items()]
    attempts += [(call, opened, b"", *rest) for call, rest in by_empty_path.items()]
    for call, *arguments in attempts:
        if call in numbers:
            libc.syscall(ctypes.c_long(numbers[call]), *arguments)

for name in (path, path + "/file"):
    for how in (os.O_RDONLY, os.O_PATH, os.O_RDONLY | os.O_TRUNC, 3 | os.O_TRUNC):
        try:
            opened = os.open(name, how)
        except OSError:
            opened = -1
        try_all(name.encode(), opened)
        try_all(f"/proc/self/fd/{opened}".encode(), opened)
"""


def changes(tier: str) -> set[str]:
    """Return what the program changed of a closed folder and a file in it; ``none`` as a tier runs it unsealed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_text("secret")
        file.chmod(0o600)
        os.setxattr(file, "user.kept", b"1")
        before = _described(Path(folder)) | _described(file)
        stdin = json.dumps([folder, NUMBERS[platform.machine()]])
        if tier == "none":
            read, write = os.pipe()
            os.write(write, stdin.encode())
            os.close(write)
            os.dup2(read, 0)
            exec(PROGRAM, {})
        else:
            sandbox: Any = HardenedSandbox(workers=1, tier=tier)  # type: ignore[arg-type]
            verdict = sandbox.run(PROGRAM, UnitTests(inputs=(stdin,), outputs=("",)))
            sandbox.close()
            assert verdict.passed, verdict
        after = _described(Path(folder)) | _described(file)
    return {name for name in before if before[name] != after[name]}


def _described(path: Path) -> dict[str, object]:
    status = path.stat()
    kind = "folder" if path.is_dir() else "file"
    found: dict[str, object] = {name: getattr(status, f"st_{name}") for name in ("mode", "uid", "gid", "size")}
    found |= {"mtime": status.st_mtime_ns, "ctime": status.st_ctime_ns, "attributes": os.listxattr(path)}
    return {f"{kind}: {name}": value for name, value in found.items()}


if __name__ == "__main__":
    print(json.dumps(sorted(changes(sys.argv[1]))))
