"""The environment of a run: machine, packages, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Return Python, platform, processors, the versions of all installed packages, and the commit."""
    commit, dirty = git_commit()
    metadata = [distribution.metadata for distribution in distributions()]
    packages = {str(one["Name"]): one["Version"] for one in metadata if one["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "git": {"commit": commit, "uncommitted_changes": dirty},
        "packages": dict(sorted(packages.items())),
    }


def git_commit(directory: Path | None = None) -> tuple[str | None, bool]:
    """Return the commit of the source code, and whether the code was changed since.

    Args:
        directory: A directory under version control; this package's own if not given.

    Returns:
        ``(None, False)`` where git tracks no file of the directory, as for a package installed below a checkout.
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
