"""The weights that engines and saved policies get from a policy."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import named_weights
from tests.model.architectures import HYBRID, tiny
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
