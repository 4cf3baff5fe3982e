"""Building and calling the engine changes nothing in the process around it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.distributed as dist

from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import TinyPolicy, tiny_qwen
from tests.vllm.policies import PROMPTS


def a_life() -> None:
    """Everything an engine does: start, sync, sample with and without randomness."""
    engine = ColocatedVLLM(kv_cache_gib=0.02)
    engine.attach(TinyPolicy(tiny_qwen()))  # type: ignore[arg-type]
    engine.sync()
    engine.generate(PROMPTS, Sampling(3, max_tokens=5), seeds=range(4))
    engine.generate(PROMPTS, Sampling(1, 0.0, max_tokens=5), seeds=range(4))


def threads() -> tuple[object, ...]:
    return torch.set_num_threads, torch.get_num_threads(), torch.get_num_interop_threads(), os.sched_getaffinity(0)


STATES: dict[str, Callable[[], object]] = {
    "torch's generator": lambda: torch.get_rng_state().tolist(),
    "numpy's generator": lambda: str(np.random.get_state()),  # noqa: NPY002
    "Python's generator": random.getstate,
    "threads": threads,
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


@pytest.mark.parametrize("name", STATES)
def test_is_left_as_it_was(name: str) -> None:
    before = STATES[name]()
    a_life()
    assert STATES[name]() == before


def test_threads_can_still_be_set() -> None:
    a_life()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_model_can_still_be_trained_and_compiled_functions_still_run() -> None:
    a_life()
    model = tiny_qwen()
    model(torch.tensor(PROMPTS[:1]), labels=torch.tensor(PROMPTS[:1])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
