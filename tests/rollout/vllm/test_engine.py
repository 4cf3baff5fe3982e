"""The engines on vLLM, as far as they do not need vLLM."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import rescale_adapter_scale

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm import ColocatedVLLM, VLLMServer, process
from omnithink_pl.rollout.vllm.adapters import ServedAdapters, scaled_adapters
from omnithink_pl.rollout.vllm.engine import advice
from tests.tiny import tiny_qwen


def test_without_vllm_asking_for_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="make setup-vllm"):
        ColocatedVLLM().check_installed()


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        ("No available memory for the cache blocks", "kv_cache_gib"),
        ("Free memory on device is less than desired", "gpu_memory_utilization"),
        ("User-specified max_model_len is greater", "max_context"),
    ],
)
def test_an_engines_error_names_the_setting(message: str, setting: str) -> None:
    assert setting in advice(message)


@pytest.mark.parametrize(
    ("engine", "setting", "wrong"),
    [
        (ColocatedVLLM, "max_rows", 0),
        (ColocatedVLLM, "tensor_parallel_size", 0),
        (ColocatedVLLM, "gpu_memory_utilization", 1.5),
        (VLLMServer, "url", "localhost:8000"),
        (VLLMServer, "requests", 0),
    ],
)
def test_invalid_settings_are_refused(engine: type, setting: str, wrong: object) -> None:
    with pytest.raises(BadInput, match=setting):
        engine(**{setting: wrong})


def test_only_adapters_that_vllm_takes_are_served() -> None:
    with pytest.raises(BadInput, match=r"serve_adapters is true, and the policy has no adapters; set model\.adapter"):
        ServedAdapters.arguments(tiny_qwen())
    adapted = get_peft_model(tiny_qwen(), LoraConfig(r=12, target_modules=["q_proj", "down_proj"]))
    assert ServedAdapters.arguments(adapted) == {"enable_lora": True, "max_loras": 1, "max_lora_rank": 16}
    embeddings = get_peft_model(tiny_qwen(tie_word_embeddings=False), LoraConfig(r=4, target_modules=["embed_tokens"]))
    with pytest.raises(BadInput, match="experts or embeddings, or of a rank above 512, can only be merged"):
        ServedAdapters.arguments(embeddings)


def test_served_adapters_have_the_scale_of_the_moment_and_the_policy_keeps_its_own() -> None:
    model = get_peft_model(tiny_qwen(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with rescale_adapter_scale(model, 0.5):
        half = scaled_adapters(model)
    for name, value in scaled_adapters(model).items():
        assert torch.equal(half[name], value * (0.5 if "lora_B" in name else 1.0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
