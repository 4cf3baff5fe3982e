"""What holds for every test: no network, no screen, one thread, nothing written to the home directory."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_SCRATCH = tempfile.TemporaryDirectory(prefix="omnithink-tests-")

# Before torch, transformers, datasets and MLflow are imported: they read these only once.
# Processes that tests start inherit them.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": _SCRATCH.name,
        "HF_HOME": _SCRATCH.name,
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
)


def pytest_unconfigure() -> None:
    _SCRATCH.cleanup()


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A connection that would leave this machine fails at once, with its address."""
    connect = socket.socket.connect

    def local_only(sock: socket.socket, address: object) -> None:
        if sock.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to connect to {address}; tests are offline")
        connect(sock, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line under test gets its arguments and its store from the test, not from pytest or who runs it."""
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, made once: its migrations cost seconds, a copy of it nothing."""
    from omnithink_pl.tracking.store import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracking_uri(empty_store: Path, tmp_path: Path) -> str:
    """A store of the test's own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def real_model(request: pytest.FixtureRequest) -> Path:
    """The folder of SmolLM2-135M-Instruct, which is made once for this checkout."""
    from tests.real.smollm2 import smollm2

    return smollm2(request.config.cache.mkdir("smollm2"))
