"""Law 6: after a weight sync, engine and trainer agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from transformers import PreTrainedModel

from omnithink_pl.errors import EngineFailure
from omnithink_pl.rollout.vllm import loading as build
from tests.tiny import tiny_llama, tiny_qwen
from tests.vllm.policies import PROMPTS, attached, distance, train, with_lora

AGREE = 1e-4
FAR = 0.1  # what stale weights or a stale cache differ by, at least


def tied() -> PreTrainedModel:
    return tiny_qwen(tie_word_embeddings=True)


def untied() -> PreTrainedModel:
    return tiny_qwen(tie_word_embeddings=False)


@pytest.mark.parametrize("build", [tied, untied, tiny_llama])
@pytest.mark.parametrize("adapt", [lambda model: model, with_lora], ids=["full", "LoRA"])
def test_law_6_engine_and_trainer_agree_after_every_sync(
    build: Callable[[], PreTrainedModel], adapt: Callable[[PreTrainedModel], PreTrainedModel]
) -> None:
    model = adapt(build())
    engine, _ = attached(model)
    assert distance(engine, model) < AGREE
    for _ in range(3):
        train(model, steps=10)
        assert distance(engine, model) > FAR, "training must move the policy far for this test to say anything"
        engine.sync()
        assert distance(engine, model) < AGREE


def test_law_6_holds_after_two_hundred_syncs_of_lora_and_no_weight_has_drifted() -> None:
    model = with_lora(tied())
    engine, _ = attached(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for _ in range(200):
        engine.sync()
    assert distance(engine, model) < AGREE
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_with_the_adapter_off_the_engine_is_the_base_model() -> None:
    model = with_lora(tied())
    engine, _ = attached(model)
    with model.disable_adapter():
        engine.sync()
        assert distance(engine, model) < AGREE
    assert distance(engine, model) > FAR
    engine.sync()
    assert distance(engine, model) < AGREE


def test_keys_and_values_of_old_weights_are_forgotten() -> None:
    # Prompts longer than a cache block, asked for again and again, so that the prefix cache has them.
    prompts = [prompt * 9 for prompt in PROMPTS[:2]]
    model = tied()
    engine, _ = attached(model)
    assert distance(engine, model, prompts=prompts) < AGREE
    train(model, steps=10)
    engine.sync()
    assert distance(engine, model, prompts=prompts) < AGREE


def test_a_weight_without_a_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tied()
    engine, _ = attached(model)
    kept = {name: value for name, value in model.state_dict().items() if "layers.1.mlp.down" not in name}
    monkeypatch.setattr("omnithink_pl.rollout.vllm.engine.named_weights", lambda _: iter(kept.items()))
    with pytest.raises(EngineFailure, match=r"no value for the engine's model\.layers\.1\.mlp\.down_proj\.weight"):
        engine.sync()


@pytest.mark.parametrize("make", [tied, untied])
def test_the_private_flag_is_still_what_makes_the_sync_work(
    make: Callable[[], PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Should this fail, vLLM no longer packs weights for good, and rollout/vllm/cpu.py can go.
    monkeypatch.setattr(build, "without_packed_weights", nullcontext)
    with pytest.raises(AttributeError, match="weight_loader"):
        attached(make())
