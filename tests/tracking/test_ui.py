"""The verb ``ui``, and the place where runs are, as MLflow's own variable says it to all verbs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.tracking import TrackingLogger

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "main.py"), "ui"]


@pytest.fixture
def served(tracking_uri: str) -> Iterator[tuple[str, str]]:
    """A tracking server on a store with one experiment, and the address that ``ui``, which serves it, prints."""
    _ = TrackingLogger(tracking_uri=tracking_uri).experiment
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri}
    with subprocess.Popen([*COMMAND, f"--port={port}"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{port}", next(line for line in process.stdout if line.startswith("omnithink: "))
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.slow
def test_of_a_tracking_server_it_prints_the_addresses_and_ends(served: tuple[str, str], tmp_path: Path) -> None:
    server, printed = served
    environment = os.environ | {"MLFLOW_TRACKING_URI": server}
    asked = subprocess.run(COMMAND, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert server in printed
    assert asked.stdout.strip() == printed.strip()


def test_a_run_goes_where_mlflow_is_told_to_log_unless_it_is_told_itself(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert TrackingLogger().tracking_uri == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    logger = TrackingLogger()
    logger.log_metrics({"train/loss": 1.0}, step=1)
    assert TrackingLogger(tracking_uri=tracking_uri).experiment.get_run(logger.run_id).data.metrics == {
        "train/loss": 1.0
    }
    assert TrackingLogger(tracking_uri="sqlite:///mine.db").tracking_uri == "sqlite:///mine.db"
