"""What a run ran on: machine, packages, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Python, platform, processors, the versions of all installed packages, and the commit."""
    commit, dirty = git_commit()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "git": {"commit": commit, "uncommitted_changes": dirty},
        "packages": _packages(),
    }


def git_commit(directory: Path | None = None) -> tuple[str | None, bool]:
    """The commit of the source code, and whether it was changed since.

    Args:
        directory: A directory under version control; this package's own if not given.

    Returns:
        ``(None, False)`` where the code is not under version control. A package installed below a
        checkout is not part of that checkout, so git must know the directory's files.
    """
    root = directory or Path(__file__).parents[1]
    if not _git(root, "ls-files"):
        return None, False
    return _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _packages() -> dict[str, str]:
    about = [dist.metadata for dist in distributions()]  # parsed anew whenever it is asked for
    found = {one["Name"]: one["Version"] for one in about}
    return dict(sorted((name, version) for name, version in found.items() if name))
