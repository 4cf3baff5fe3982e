"""What several suites share: an engine, and a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached
from tests.vllm.runs import run


@pytest.fixture(scope="session")
def qwen_engine() -> ColocatedVLLM:
    """An engine in the shape of ``tiny_qwen``; a test hands it a policy by ``follow``."""
    return attached(tiny_qwen())[0]


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """The directory of a run of one process."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    shutil.copy(empty_store, directory / "mlflow.db")
    finished = run(directory)
    assert finished.returncode == 0, finished.stderr
    return directory
