"""Whatever was loaded can be saved: known before the first step, not after the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from omnithink_pl.errors import BadInput
from omnithink_pl.model.adapter import LoRA, build_policy
from omnithink_pl.model.export import check_export
from omnithink_pl.model.policy import load_policy, save_policy
from tests.model.architectures import saved, tiny, tokenizer

GREEDY = {"do_sample": False, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "eos_token_id": [2, 3]}


def with_generation_config(directory: Path, **values: Any) -> str:
    name = saved(tiny("qwen2"), directory)
    (directory / "generation_config.json").write_text(json.dumps(values))
    return name


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    "values",
    [GREEDY, {"temperature": 0.6, "top_p": 0.9}, {"do_sample": True, "length_penalty": 0.5}, {"early_stopping": True}],
)
def test_values_without_effect_do_not_prevent_saving(values: dict[str, Any], weights: bool, tmp_path: Path) -> None:
    policy = load_policy(with_generation_config(tmp_path, **values), weights=weights)
    policy.model.generation_config.save_pretrained(tmp_path / "out")
    kept = GenerationConfig.from_pretrained(tmp_path / "out")
    assert kept.eos_token_id == values.get("eos_token_id")
    assert kept.do_sample == values.get("do_sample")


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)], ids=["all weights", "LoRA"])
def test_a_policy_with_such_values_is_saved(adapter: LoRA | None, tmp_path: Path) -> None:
    policy = build_policy(with_generation_config(tmp_path, **GREEDY), adapter, seed=0)
    save_policy(policy, tmp_path / "out")
    assert load_policy(str(tmp_path / "out")).model.generation_config.eos_token_id == [2, 3]


def test_values_in_use_are_kept(tmp_path: Path) -> None:
    config = load_policy(with_generation_config(tmp_path, **GREEDY | {"do_sample": True})).model.generation_config
    assert (config.temperature, config.top_p, config.top_k) == (0.7, 0.8, 20)


def test_an_invalid_generation_config_is_refused_at_the_start(tmp_path: Path) -> None:
    name = with_generation_config(tmp_path, pad_token_id=-1)
    with pytest.raises(BadInput, match=r"generation_config\.json of .* is invalid.*pad_token_id.*delete it"):
        load_policy(name)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    policy = load_policy(saved(tiny("qwen2"), tmp_path))
    check_export(policy.model, policy.tokenizer)
    policy.model.config.own = object()  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match=r"could not be saved after training.*correct its config"):
        check_export(policy.model, policy.tokenizer)


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("mllama", {"text_config": {"cross_attention_layers": [1], "num_hidden_layers": 3}}, "mllama_text_model"),
        ("emu3", {}, "emu3_text_model"),
    ],
)
def test_a_text_part_that_cannot_be_loaded_by_itself_is_refused(kind: str, given: dict[str, Any], text: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(type(AutoConfig.for_model(kind))(**given))
    assert model.config.model_type == text
    with pytest.raises(BadInput, match=rf"{type(model).__name__} could not be loaded again.*{text}.*use a decoder"):
        check_export(model, tokenizer())


def test_a_tokenizer_that_changes_when_it_is_saved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy(saved(tiny("qwen2"), tmp_path))
    monkeypatch.setattr(policy.tokenizer, "encode", lambda text: [1])
    with pytest.raises(BadInput, match=r"tokenizer .* is not the same once saved"):
        check_export(policy.model, policy.tokenizer)
