"""Adapters served beside the base model's weights: law 6 holds for them, and the base model is loaded once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.helpers import rescale_adapter_scale

from omnithink_pl.rollout.vllm import ColocatedVLLM
from omnithink_pl.rollout.vllm import engine as engine_module
from tests.rollout.agreement import distance
from tests.tiny import TinyPolicy, tiny_qwen
from tests.vllm.engines import AGREE, FAR, attached, check_base_model_within, train, with_lora

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served() -> tuple[ColocatedVLLM, TinyPolicy]:
    return attached(with_lora(tiny_qwen()), serve_adapters=True)


def test_law_6_holds_for_adapters_and_their_base_model_is_loaded_once(
    served: tuple[ColocatedVLLM, TinyPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, policy = served
    loads: list[Any] = []
    load = engine_module.load_every_weight
    monkeypatch.setattr(engine_module, "load_every_weight", lambda *a: (loads.append(a), load(*a)))
    assert distance(engine, policy.model) < AGREE
    for _ in range(3):
        train(policy, steps=5)
        assert distance(engine, policy.model) > FAR, "training must move the policy far for this test to say anything"
        engine.sync()
        assert distance(engine, policy.model) < AGREE
    assert loads == []
    assert len(engine._llm.llm_engine.list_loras()) == 1


def test_without_its_adapters_the_engine_is_the_base_model(served: tuple[ColocatedVLLM, TinyPolicy]) -> None:
    engine, policy = served
    check_base_model_within(rescale_adapter_scale(policy.model, 0.0), engine, policy)


def test_weights_that_were_dropped_are_loaded_with_the_adapters(served: tuple[ColocatedVLLM, TinyPolicy]) -> None:
    engine, policy = served

    def dropped(model: torch.nn.Module) -> None:
        for parameter in model.parameters():
            parameter.data.fill_(float("nan"))

    engine._llm.apply_model(dropped)
    engine._sleep.without_weights = True
    assert distance(engine, policy.model) < AGREE
