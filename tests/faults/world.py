"""What surrounds a run: its folders and disks, the judge and the tracking server; broken by the run, mended here."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.disturber import BALLAST
from tests.faults.plans import FOLDERS, Fault, Plan
from tests.judge.scripted import ScriptedServer

_DISK = "64m"


class World:
    """The surroundings of a run, made and removed by ``with``.

    Args:
        directory: An empty folder.
        store: An empty tracking store, to be copied.
        plan: Says what will be broken.
    """

    def __init__(self, directory: Path, store: Path, plan: Plan | None = None) -> None:
        self.directory = directory
        self.plan = plan
        self.folders = {name: directory / name for name in FOLDERS}
        self.mounted = False
        self._store = store
        self._stack = ExitStack()
        self.judge: ScriptedServer
        self.server: TrackingServer | None = None

    def __enter__(self) -> Self:
        """Make folders and disks and start the servers."""
        for folder in self.folders.values():
            folder.mkdir(parents=True)
        if self.plan is not None and self.plan.fault is Fault.DISK_FULL:
            self.mounted = self._stack.enter_context(small_disk(self.folders[self.plan.folder]))
        shutil.copy(self._store, self.database)
        self.judge = ScriptedServer()
        self._stack.callback(lambda: self.judge.kill())
        if self.plan is not None and self.plan.fault is Fault.SERVER_GONE:
            self.server = TrackingServer(self.database)
            self._stack.callback(self.server.kill)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End and remove them."""
        self._stack.close()

    @property
    def database(self) -> Path:
        """The tracking store's file."""
        return self.folders["store"] / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        """Address of the store for the run."""
        return f"sqlite:///{self.database}" if self.server is None else self.server.url

    def mend(self) -> None:
        """Make room, and start again what was killed."""
        for folder in self.folders.values():
            (folder / BALLAST).unlink(missing_ok=True)
        if self.judge.process.poll() is not None:
            self.judge.kill()  # which closes its pipes
            self.judge = ScriptedServer(self.judge.port)
        if self.server is not None and not self.server.process.is_alive():
            self.server.start()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk at a folder; yields whether that was possible: it takes root."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TrackingServer:
    """MLflow's server on the loopback, in a process that can be killed."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, again at the same port."""
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(self._database, self.port, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.port = mine.recv()

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.join()


def _serve(database: Path, port: int, ready: object) -> None:
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{database}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(database.parent / "unused")
    import logging

    warnings.resetwarnings()  # which pytest makes errors
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from mlflow.server import app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", port, app, threaded=True)
    ready.send(server.server_port)  # type: ignore[attr-defined]
    server.serve_forever()
