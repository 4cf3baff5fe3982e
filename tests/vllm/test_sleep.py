"""The engine's sleep: what is called in which order, and that dropped weights are never sampled from.

On a CPU vLLM does nothing when it is put to sleep. So its weights are overwritten here when they would be dropped; all
else is the real engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from omnithink_pl.errors import EngineFailure
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.vllm import ColocatedVLLM
from omnithink_pl.rollout.vllm import engine as engine_module
from omnithink_pl.rollout.vllm.process import Sleep
from tests.rollout.agreement import PROMPTS, distance
from tests.tiny import tiny_qwen
from tests.vllm.engines import follow, perturb, train

pytestmark = pytest.mark.slow

SAMPLING = Sampling(2, max_tokens=6)


def spoil(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))


@pytest.fixture
def calls(qwen_engine: ColocatedVLLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the engine asks of vLLM, on a machine where sleeping is possible; it is awake before and after."""
    llm, made = qwen_engine._llm, []
    sleep, wake, load = llm.sleep, llm.wake_up, engine_module.load_every_weight

    def dropped(level: int) -> None:
        made.append(("sleep", level))
        sleep(level=level)
        llm.apply_model(spoil)

    def woken(tags: list[str]) -> None:
        made.append(("wake", *tags))
        wake(tags=tags)

    def loaded(*arguments: Any) -> None:
        made.append("load")
        load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(llm, "sleep", dropped)
        patch.setattr(llm, "wake_up", woken)
        patch.setattr(engine_module, "load_every_weight", loaded)
        patch.setattr(Sleep, "possible", staticmethod(lambda: True))
        yield made
        qwen_engine.sync()
        qwen_engine._sleep.wake_cache(llm, None)


def test_weights_wake_are_loaded_and_then_the_cache_wakes(qwen_engine: ColocatedVLLM, calls: list[Any]) -> None:
    policy = follow(qwen_engine, tiny_qwen())
    calls.clear()
    assert distance(qwen_engine, policy.model) < 1e-4
    assert calls == [("sleep", 2)]
    train(policy, steps=1)
    qwen_engine.sync()
    assert calls[1:] == [("wake", "weights"), "load"]
    assert distance(qwen_engine, policy.model) < 1e-4
    assert calls[3:] == [("wake", "kv_cache"), ("sleep", 2)]


def test_unchanged_weights_are_loaded_again(qwen_engine: ColocatedVLLM, calls: list[Any]) -> None:
    """An evaluation samples twice from one policy, with and without a sync between."""
    policy = follow(qwen_engine, tiny_qwen())
    for sync in (True, False, True):
        if sync:
            qwen_engine.sync()
        assert distance(qwen_engine, policy.model) < 1e-4
    assert calls.count("load") == 3
    assert calls.count(("wake", "kv_cache")) == 2


def test_a_call_without_prompts_takes_part_in_loading(qwen_engine: ColocatedVLLM, calls: list[Any]) -> None:
    follow(qwen_engine, tiny_qwen())
    qwen_engine.generate(PROMPTS, SAMPLING, range(4))
    before = calls.count("load")
    assert qwen_engine.generate([], SAMPLING, []) == []
    assert calls.count("load") == before + 1, "a sharded policy is gathered by all processes"


def test_the_same_weights_must_compute_the_same(qwen_engine: ColocatedVLLM, calls: list[Any]) -> None:
    policy = follow(qwen_engine, tiny_qwen())
    qwen_engine.generate(PROMPTS, SAMPLING, range(4))
    version = policy.version
    perturb(policy)
    policy.version = version  # what comes back is not what the version says
    qwen_engine.sync()
    with pytest.raises(
        EngineFailure, match=r"log-probabilities differ by .* set model\.engine\.init_args\.sleep=false"
    ):
        qwen_engine.generate(PROMPTS, SAMPLING, range(4))
