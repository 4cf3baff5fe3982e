"""What the vLLM engine is made of, as far as it does not need vLLM."""

from __future__ import annotations

import os

import pytest
import torch
from peft import LoraConfig, get_peft_model

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm import ColocatedVLLM
from omnithink_pl.rollout.vllm import engine as sleep
from omnithink_pl.rollout.vllm import loading as build
from omnithink_pl.rollout.vllm.engine import advice
from omnithink_pl.rollout.vllm.loading import environment
from omnithink_pl.rollout.vllm.weights import named_weights
from tests.tiny import tiny_qwen


def test_without_vllm_asking_for_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="make setup-vllm"):
        ColocatedVLLM()


@pytest.mark.parametrize("tied", [True, False])
def test_weights_come_once_under_the_names_of_the_checkpoint(tied: bool) -> None:
    model = tiny_qwen(tie_word_embeddings=tied)
    found = dict(named_weights(model))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.items())


def adapted(**settings: object) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = ["q_proj", "down_proj"]
        return get_peft_model(tiny_qwen(), LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **settings))


def test_lora_is_merged_as_peft_merges_it_and_nothing_is_touched() -> None:
    model = adapted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = {name: value.clone() for name, value in named_weights(model)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    right = model.merge_and_unload().state_dict()
    assert found.keys() == {name for name in right if name != "lm_head.weight"}  # tied
    for name, value in found.items():
        assert torch.allclose(value, right[name], atol=1e-6)
    assert not torch.equal(
        found["model.layers.0.self_attn.q_proj.weight"], tiny_qwen().model.layers[0].self_attn.q_proj.weight
    )


def test_with_the_adapter_off_the_weights_are_the_base_models() -> None:
    model = adapted()
    with model.disable_adapter():
        found = dict(named_weights(model))
    assert all(torch.equal(value, tiny_qwen().state_dict()[name]) for name, value in found.items())


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["norm"]}], ids=str)
def test_adapters_that_cannot_be_merged_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"cannot take over.*use plain LoRA"):
        list(named_weights(adapted(**settings)))


def test_the_environment_is_as_it_was_after_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    before = dict(os.environ)
    with environment({"KEPT": "changed", "NEW": "new"}):
        assert os.environ["KEPT"] == "changed"
        os.environ["ANOTHER"] = "another"
        del os.environ["PATH"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("after", [[-1.0, -2.5], [-1.0, float("nan")]])
def test_a_probe_that_differs_after_waking_raises(after: list[float]) -> None:
    sleep.check_probe([-1.0, -2.0], [-1.0, -2.001])
    with pytest.raises(RuntimeError, match=r"sleep=false"):
        sleep.check_probe([-1.0, -2.0], after)


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


@pytest.mark.parametrize("wrong", [{"max_rows": 0}, {"tensor_parallel_size": 0}, {"gpu_memory_utilization": 1.5}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ColocatedVLLM(**wrong)  # type: ignore[arg-type]
