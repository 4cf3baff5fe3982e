"""Those as whom the sandbox is tried: whoever runs the tests and, where that is root, others that root can become."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

ORDINARY = 54_321
AS_ITSELF = "itself"
# Each by the command that runs another as such. Root without rights, as in a locked container, cannot change its user:
# its programs own root's files.
USERS: dict[str, list[str]] = {AS_ITSELF: []}
if os.getuid() == 0:
    USERS["ordinary"] = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
    USERS["root without rights"] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
TIERS = [(user, tier) for user in USERS for tier in ("bubblewrap", "landlock")]
TIERS = [pair for pair in TIERS if pair != ("root without rights", "bubblewrap")]  # it can make no namespaces


def run_as(user: str, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Python as a user, with an environment that has a secret in it."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "SECRET_TOKEN": "hunter2"}
    command = [*USERS[user], _interpreter(user), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **settings)


def _interpreter(user: str) -> str:
    """One that this user may run: that of the tests may lie in root's home."""
    check = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(sys._base_executable, os.X_OK))"
    for candidate in (sys.executable, getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        command = [*USERS[user], candidate, "-c", check]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return candidate
    raise AssertionError(f"{user} can run no Python 3.11")
