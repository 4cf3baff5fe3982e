"""The weights that engines and saved policies get from a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, GenerationConfig

from omnithink_pl.errors import BadInput
from omnithink_pl.model.adapter import LoRA, build_policy
from omnithink_pl.model.policy import load_policy, named_weights, save_policy
from omnithink_pl.rollout.base import stop_ids
from tests.model.architectures import HYBRID, saved, tiny, tokenizer
from tests.tiny import tiny_qwen


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


def test_lora_is_merged_as_peft_merges_it_and_the_model_is_unchanged() -> None:
    model = adapted()
    with model.disable_adapter():
        base = dict(named_weights(model))
    assert all(torch.equal(value, tiny_qwen().state_dict()[name]) for name, value in base.items())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = {name: value.clone() for name, value in named_weights(model)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    merged = model.merge_and_unload().state_dict()
    assert found.keys() == {name for name in merged if name != "lm_head.weight"}  # tied
    for name, value in found.items():
        assert torch.allclose(value, merged[name], atol=1e-6)
    query = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(found[query], tiny_qwen().state_dict()[query])


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["norm"]}], ids=str)
def test_adapters_that_cannot_be_merged_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"cannot take over.*use plain LoRA"):
        list(named_weights(adapted(**settings)))


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")  # of PEFT 0.21
def test_lora_of_fused_experts_is_merged() -> None:
    settings = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(tiny("qwen3_next", **HYBRID), settings)
    with model.disable_adapter():
        base = {name: value.clone() for name, value in named_weights(model)}
    found = {name: value.clone() for name, value in named_weights(model)}
    merged = model.merge_and_unload().state_dict()
    assert any(".experts." in name and not torch.equal(value, base[name]) for name, value in found.items())
    for name, value in found.items():
        assert torch.allclose(value, merged[name], atol=1e-6), name


FP8 = torch.float8_e4m3fn
IN_BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
OF_CHANNELS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False},
        }
    },
}


def blocks(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rows, columns = weight.shape[0] // 32, weight.shape[1] // 32
    scale = weight.view(rows, 32, columns, 32).abs().amax((1, 3)) / torch.finfo(FP8).max
    every = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
    return {"weight": (weight / every).to(FP8), "weight_scale_inv": scale}


def channels(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / torch.finfo(FP8).max
    return {"weight": (weight / scale).to(FP8), "weight_scale": scale}


def quantised(directory: Path, how: dict[str, Any], store: Any = blocks, kind: str = "qwen2") -> str:
    """A checkpoint of the layers' weights in FP8, with their scales, as published ones are."""
    name = saved(tiny(kind), directory)
    weights = load_file(directory / "model.safetensors")
    for key in [key for key in weights if key.endswith("proj.weight")]:
        weights |= {f"{key.removesuffix('weight')}{leaf}": part for leaf, part in store(weights.pop(key)).items()}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    declare(directory, how)
    return name


def declare(directory: Path, how: dict[str, Any]) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": how}))


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, weights="nf4")], ids=["all", "QLoRA"])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("how", [OF_CHANNELS, OF_CHANNELS | {"dequantize": True}, {"quant_method": "gptq", "bits": 4}])
def test_weights_that_would_stay_quantised_are_refused_before_they_are_read(
    how: dict[str, Any], weights: bool, adapter: LoRA | None, tmp_path: Path
) -> None:
    name = quantised(tmp_path, how, channels)
    (tmp_path / "model.safetensors").unlink()
    why = rf"model\.policy: .* are quantised \({how['quant_method']}\).*take the checkpoint that is not.*nf4"
    with pytest.raises(BadInput, match=why):
        build_policy(name, adapter, seed=0, weights=weights)


def test_nf4_takes_no_weights_that_are_quantised_in_another_way(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"are quantised \(fp8\)"):
        build_policy(quantised(tmp_path, IN_BLOCKS), LoRA(rank=2, weights="nf4"), seed=0)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)], ids=["all", "LoRA"])
def test_weights_that_have_stayed_quantised_are_refused_for_training_and_not_for_judging(
    adapter: LoRA | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))  # computes in FP8
    name = quantised(tmp_path, IN_BLOCKS)
    with pytest.raises(BadInput, match=r"are quantised \(fp8\)"):
        build_policy(name, adapter, seed=0)
    assert FP8 in {parameter.dtype for parameter in load_policy(name).model.parameters()}


@pytest.mark.parametrize("kind", ["qwen2", "qwen3_moe"])
def test_weights_that_are_dequantised_while_they_are_loaded_are_trained_and_saved(kind: str, tmp_path: Path) -> None:
    name = quantised(tmp_path / "in", IN_BLOCKS | {"dequantize": True}, kind=kind)
    policy, plain = build_policy(name, None, seed=0), tiny(kind).state_dict()
    for name, parameter in policy.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad
        assert (parameter - plain[name]).abs().max() <= plain[name].abs().max() / 16, name
    save_policy(policy, tmp_path / "out")
    again = load_policy(str(tmp_path / "out")).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in policy.model.state_dict().items())


def test_dequantised_weights_have_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    """Experts in MXFP4, which transformers makes bfloat16: small updates would vanish."""
    name = saved(tiny("gpt_oss"), tmp_path / "in")
    weights = load_file(tmp_path / "in" / "model.safetensors")
    for key in [key for key in weights if key.endswith(("gate_up_proj", "down_proj"))]:
        experts, rows, columns = weights.pop(key).shape
        weights[f"{key}_blocks"] = torch.randint(256, (experts, columns, rows // 32, 16), dtype=torch.uint8)
        weights[f"{key}_scales"] = torch.full((experts, columns, rows // 32), 120, dtype=torch.uint8)
    save_file(weights, tmp_path / "in" / "model.safetensors", {"format": "pt"})
    declare(tmp_path / "in", {"quant_method": "mxfp4", "dequantize": True})
    policy = build_policy(name, None, seed=0)
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    save_policy(policy, tmp_path / "out")
    again = load_policy(str(tmp_path / "out")).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in policy.model.state_dict().items())


def test_lack_of_memory_is_not_blamed_on_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        load_policy("embedded")


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("configured", [None, 2, [5, 2]], ids=str)
def test_a_policy_stops_where_its_chat_template_ends_an_answer_also_once_saved(
    configured: int | list[int] | None, weights: bool, tmp_path: Path
) -> None:
    """ChatML on a tokenizer whose EOS is another token, as Qwen2.5's before it was instructed."""
    saved(tiny("qwen2"), tmp_path / "in")
    made = tokenizer()
    made.add_tokens([AddedToken("<|im_end|>", normalized=False, special=True)])
    made.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    made.save_pretrained(tmp_path / "in")
    GenerationConfig(eos_token_id=configured).save_pretrained(tmp_path / "in")
    policy = load_policy(str(tmp_path / "in"), weights=weights)
    end = made.convert_tokens_to_ids("<|im_end|>")
    assert policy.eos_id == end
    assert stop_ids(policy) == {end, 2, *([5] if isinstance(configured, list) else [])}
    policy.model.generation_config.save_pretrained(tmp_path / "out")
    assert set(GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id) == stop_ids(policy)
