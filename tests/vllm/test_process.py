"""Starting and calling the engine changes nothing in the process around it, nor in its process group."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from omnithink_pl.rollout.base import Sampling
from tests.rollout.agreement import PROMPTS
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached, perturb

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
STATES: dict[str, Callable[[], object]] = {
    "torch's generator": lambda: torch.get_rng_state().tolist(),
    "numpy's generator": lambda: str(np.random.get_state()),  # noqa: NPY002
    "Python's generator": random.getstate,
    "number of threads": lambda: (torch.set_num_threads, torch.get_num_threads(), torch.get_num_interop_threads()),
    "cores": lambda: os.sched_getaffinity(0),
    "environment": lambda: dict(os.environ),
    "process group": dist.is_initialized,
    "default dtype, device and precision": lambda: (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    ),
}


@pytest.fixture(scope="module")
def before_and_after() -> tuple[dict[str, object], dict[str, object]]:
    """All states around everything that an engine does: start, sync, sample with and without randomness."""
    before = {name: state() for name, state in STATES.items()}
    engine, policy = attached(tiny_qwen())
    perturb(policy)
    engine.sync()
    engine.generate(PROMPTS, Sampling(3, max_tokens=5), seeds=range(4))
    engine.generate(PROMPTS, Sampling(1, 0.0, max_tokens=5), seeds=range(4))
    return before, {name: state() for name, state in STATES.items()}


@pytest.mark.parametrize("name", STATES)
def test_is_unchanged(name: str, before_and_after: tuple[dict[str, object], dict[str, object]]) -> None:
    before, after = before_and_after
    assert after[name] == before[name]


@pytest.mark.usefixtures("before_and_after")
def test_threads_can_still_be_set_and_a_model_can_still_be_trained() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    model = tiny_qwen()
    model(torch.tensor(PROMPTS[:1]), labels=torch.tensor(PROMPTS[:1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_process_group_stays_the_default_one_and_sharded_weights_arrive_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vllm.one_rank", str(tmp_path / "store")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_two_ranks_that_share_an_engine_each_get_their_own_share() -> None:
    command = [sys.executable, "-m", *TORCHRUN, "tests.vllm.tensor_parallel"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("all checks passed") == 2
