from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from omnithink_pl.tracking.environment import environment, git_commit


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_environment_names_versions_and_machine() -> None:
    found = environment()
    assert found["packages"]["torch"] == version("torch")
    assert found["cpus"] >= 1
    assert set(found["git"]) == {"commit", "uncommitted_changes"}


def test_the_commit_is_told_with_whether_the_code_was_changed_since(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert git_commit(tmp_path) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "code.py").write_text("x = 2\n")
    assert git_commit(tmp_path) == (git(tmp_path, "rev-parse", "HEAD"), True)


def test_a_package_installed_below_a_checkout_is_not_that_checkout(tmp_path: Path) -> None:
    installed = tmp_path / ".venv"
    installed.mkdir()
    (installed / "code.py").write_text("")
    git(tmp_path, "init", "-q")
    assert git_commit(installed) == (None, False)
