"""The verb ``ui``: MLflow's UI on the runs of a store, with the address of each experiment's table of runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import final

from omnithink_pl.errors import BadInput, OmniThinkError
from omnithink_pl.tracking.runs import LAST_USED
from omnithink_pl.tracking.store import connect, find_store, guard, sqlite_path
from omnithink_pl.tracking.views import runs_address, server_of

_WAIT = 0.2  # seconds between two looks at whether the server answers
# MLflow's own four processes that answer, and eight that wait for jobs of its other half, take 2 GB and ten seconds;
# its line for every request would scroll the addresses away.
_FOR_ONE = ["--workers", "1", "--uvicorn-opts", "--log-level=warning"]
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}


def run_tables(uri: str, server: str) -> dict[str, str]:
    """Return the address of the table of runs of each experiment of ours, by name, the one used last at the end."""
    client = connect(uri)
    with guard(uri, "list the experiments"):
        ours = [one for one in client.search_experiments() if LAST_USED in one.tags]
    ours.sort(key=lambda one: one.tags[LAST_USED])
    return {str(one.name): runs_address(server, str(one.experiment_id)) for one in ours}


def _print_tables(tables: dict[str, str]) -> None:
    for name, address in tables.items():
        print(f"\n{name}: {address}", flush=True)


@final
class Ui:
    """Serves MLflow's UI until it is interrupted, and prints where each experiment's table of runs is.

    Args:
        tracking_uri: The store: an SQLAlchemy database, or a tracking server, which has its own UI;
            ``$MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db``, if not given.
        host: Address to listen at.
        port: Port to listen at.
    """

    def __init__(self, tracking_uri: str | None = None, host: str = "127.0.0.1", port: int = 5000) -> None:
        self.uri = find_store(tracking_uri)
        self.host = host
        self.port = str(port)

    def run(self) -> None:
        """Serve a database; of a tracking server, which has its own UI, print the addresses alone.

        Raises:
            OmniThinkError: If there is no store yet, or the server does not start.
        """
        if self.uri.startswith("http"):
            _print_tables(run_tables(self.uri, server_of(self.uri)) or {"no runs yet": server_of(self.uri)})
            return
        server = f"http://{self.host}:{self.port}"
        database = sqlite_path(self.uri)
        if database is not None and not database.exists():
            raise BadInput(
                f"there are no runs yet: no file {database}; `fit` makes one, or name another: --tracking_uri"
            )
        if answers(server):
            raise BadInput(f"something answers at {server} already; choose another port, such as --port=5001")
        tables = run_tables(self.uri, server)
        options = ["--backend-store-uri", self.uri, "--host", self.host, "--port", self.port, *_FOR_ONE]
        process = subprocess.Popen([sys.executable, "-m", "mlflow", "ui", *options], env={**os.environ, **_ENVIRONMENT})
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        with contextlib.suppress(KeyboardInterrupt):  # the server gets it too
            while process.poll() is None and not answers(server):
                time.sleep(_WAIT)
            if process.poll() is None:
                _print_tables(tables)
            process.wait()
        code = process.wait()
        if code not in (0, -signal.SIGINT, -signal.SIGTERM):
            raise OmniThinkError(f"MLflow's server ended with code {code}; what it printed says why")


def answers(server: str) -> bool:
    """Whether a server answers at an address, whatever it says."""
    try:
        urllib.request.urlopen(f"{server}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
