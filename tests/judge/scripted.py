"""Starts the scripted server and speaks to it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.judge.server import USAGE


class ScriptedServer:
    """The server's process, at a port that is free if none is given."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def script(self, **settings: Any) -> None:
        """Behave so from now on, and count from 0."""
        whole = {"share": 0.0, "always": None, "biased": False, "slow": 5.0, "usage": USAGE, "status": 200} | settings
        request = urllib.request.Request(self.url, json.dumps(whole).encode(), method="PUT")
        urllib.request.urlopen(request).close()

    def log(self) -> dict[str, int]:
        """Requests and faults since the last ``script``."""
        with urllib.request.urlopen(self.url) as reply:
            return json.load(reply)

    def last(self) -> dict[str, Any]:
        """Parameters of the last request."""
        with urllib.request.urlopen(f"{self.url}/last") as reply:
            return json.load(reply)

    def kill(self) -> None:
        """End it, if it has not ended yet."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def scripted_server(port: int = 0) -> Iterator[ScriptedServer]:
    server = ScriptedServer(port)
    try:
        yield server
    finally:
        server.kill()
