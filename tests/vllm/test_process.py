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
from omnithink_pl.rollout.vllm.process import SWITCHES, ProcessState
from tests.rollout.agreement import PROMPTS
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached, perturb
from tests.vllm.processes import ROOT, TORCHRUN

pytestmark = pytest.mark.slow

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
        torch.is_autocast_enabled("cpu"),
    ),
    "switches": lambda: [read() for read, _ in SWITCHES],
}


def test_an_engine_changes_no_state_and_a_model_can_still_be_trained() -> None:
    """Around everything that an engine does: start, sync, sample with and without randomness."""
    before = {name: state() for name, state in STATES.items()}
    engine, policy = attached(tiny_qwen())
    perturb(policy)
    engine.sync()
    engine.generate(PROMPTS, Sampling(3, max_tokens=5), seeds=range(4))
    engine.generate(PROMPTS, Sampling(1, 0.0, max_tokens=5), seeds=range(4))
    assert {name for name, state in STATES.items() if state() != before[name]} == set()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    model = tiny_qwen()
    model(torch.tensor(PROMPTS[:1]), labels=torch.tensor(PROMPTS[:1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_vllm_sets_on_a_gpu_is_put_back_too() -> None:
    """Its settings there, by hand: on a CPU it makes none of them."""
    before = [read() for read, _ in SWITCHES]
    with ProcessState().preserved({}):
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32
        torch.backends.cuda.enable_cudnn_sdp(not torch.backends.cuda.cudnn_sdp_enabled())
        torch.set_default_dtype(torch.bfloat16)
        assert [read() for read, _ in SWITCHES] != before
    assert [read() for read, _ in SWITCHES] == before


def run(*arguments: str) -> str:
    finished = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_process_group_stays_the_default_one_and_sharded_weights_arrive_whole(tmp_path: Path) -> None:
    run("-m", "tests.vllm.ranks", "alone", str(tmp_path / "store"))


def test_law_6_experts_agree_after_every_sync() -> None:
    run("-m", "tests.vllm.ranks", "experts")


def test_two_ranks_that_share_an_engine_each_get_their_own_share() -> None:
    assert run(*TORCHRUN, "-m", "tests.vllm.ranks", "shared").count("all checks passed") == 2
