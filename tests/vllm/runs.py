"""Short runs of the command line on vLLM, each in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.callbacks.test_resume import TIMED

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
SETTINGS = [
    "fit",
    "--config=configs/rollout/vllm.yaml",
    "--name=short",
    "--curriculum.stages=[{tasks: {code: 1, qa: 1}, steps: 2}, {tasks: {math: 1, writing: 1}, steps: 2}]",
    "--data.batch_size=4",
    "--model.sampling.group_size=4",
    "--model.rollouts.updates_per_batch=2",
    "--model.engine.init_args.kv_cache_gib=0.02",
    "--evaluation.evaluator.prompts=2",
    "--evaluation.evaluator.samples=2",
    "--checkpoints.every_n_steps=1",
]


def run(
    directory: Path, *more: str, launcher: tuple[str, ...] = (), settings: Sequence[str] = SETTINGS
) -> subprocess.CompletedProcess[str]:
    """Run ``main.py``; ``launcher`` are the arguments of Python before it."""
    places = [
        f"--trainer.default_root_dir={directory}",
        f"--trainer.logger.init_args.tracking_uri=sqlite:///{directory}/mlflow.db",
    ]
    command = [sys.executable, *launcher, "main.py", *settings, *places, *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def checkpoint(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("short/*/last.ckpt")
    return torch.load(path, weights_only=True)


def metrics(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric's history, but for what depends on the clock."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("omnithink").experiment_id])
    assert found.info.status == "FINISHED"
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
        if not TIMED.search(name)
    }
