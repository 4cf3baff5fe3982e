"""Every hostile and every honest program, in both tiers, as root and as an ordinary user where root runs the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.programs import HONEST, HOSTILE

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = 54_321
USERS = [os.getuid(), ORDINARY] if os.getuid() == 0 else [os.getuid()]


def as_user(uid: int, command: list[str]) -> list[str]:
    if uid == os.getuid():
        return command
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *command]


def interpreter(uid: int) -> str:
    """One that this user may run: that of the tests may lie in root's home."""
    check = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(sys._base_executable, os.X_OK))"
    for candidate in (sys.executable, getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        command = as_user(uid, [candidate, "-c", check])
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return candidate
    raise AssertionError(f"user {uid} can run no Python 3.11")


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """What the suite needs, where every user may read it; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        for package in ("omnithink_pl", "tests"):
            shutil.copytree(ROOT / package / "sandbox", folder / package / "sandbox", ignore=ignored)
            shutil.copy(ROOT / package / "__init__.py", folder / package)
        for file in ("errors.py", "types.py"):
            shutil.copy(ROOT / "omnithink_pl" / file, folder / "omnithink_pl")
        for path in [*folder.rglob("*"), folder]:
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        yield folder


def test_there_are_enough_programs() -> None:
    assert len({case.name for case in HOSTILE}) == len(HOSTILE) >= 60
    assert len({case.name for case in HONEST}) == len(HONEST) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_law_10_no_hostile_program_gets_through_and_no_honest_one_is_rejected(tier: str, uid: int, copy: Path) -> None:
    command = as_user(uid, [interpreter(uid), "-m", "tests.sandbox.suite", tier])
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "SECRET_TOKEN": "hunter2"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"uid": uid, "tier": tier, "hostile": {}, "honest": {}}
