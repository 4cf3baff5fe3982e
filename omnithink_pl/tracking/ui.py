"""Serve MLflow's UI, and print where each experiment's table of runs is: ``python -m omnithink_pl.tracking.ui``."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from omnithink_pl.errors import BadInput, OmniThinkError
from omnithink_pl.tracking.runs import LAST_USED
from omnithink_pl.tracking.store import connect, guard, sqlite_path
from omnithink_pl.tracking.views import runs_address

_WAIT = 0.2  # seconds between two looks at whether the server answers


def run_tables(uri: str, server: str) -> dict[str, str]:
    """Return the address of the table of runs of each experiment of ours, by name, the one used last at the end."""
    client = connect(uri)
    with guard(uri, "list the experiments"):
        ours = [one for one in client.search_experiments() if LAST_USED in one.tags]
    ours.sort(key=lambda one: one.tags[LAST_USED])
    return {str(one.name): runs_address(server, str(one.experiment_id)) for one in ours}


def main(args: Sequence[str] | None = None) -> int:
    """Serve until interrupted.

    Returns:
        The exit code of the server.

    Raises:
        OmniThinkError: If there is no store yet, or the server does not start.
    """
    parser = argparse.ArgumentParser(prog="make ui", description="Others go to `mlflow ui`.")
    parser.add_argument("--backend-store-uri", default="sqlite:///mlflow.db", help="the store")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", default="5000", help="port to listen at")
    own, others = parser.parse_known_args(args)
    uri, server = own.backend_store_uri, f"http://{own.host}:{own.port}"
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise BadInput(f"there are no runs yet: no file {database}; `make fit` makes one")
    if answers(server):
        raise BadInput(f"something answers at {server} already; choose another port: make ui ARGS=--port=5001")
    tables = run_tables(uri, server)
    command = ["--backend-store-uri", uri, "--host", own.host, "--port", own.port, *others]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *command],
        env={"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
    )
    with contextlib.suppress(KeyboardInterrupt):  # the server gets it too
        while process.poll() is None and not answers(server):
            time.sleep(_WAIT)
        if process.poll() is None:
            for name, address in tables.items():
                print(f"\n{name}: {address}", flush=True)
        process.wait()
    return process.wait()


def answers(server: str) -> bool:
    """Whether a server answers at an address, whatever it says."""
    try:
        urllib.request.urlopen(f"{server}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OmniThinkError as error:
        sys.exit(f"error: {error}")
