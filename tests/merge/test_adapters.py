"""Merging LoRA adapters: what peft does with them, and what is refused before it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.merge_utils import ties
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from main import main
from omnithink_pl.errors import BadInput
from omnithink_pl.model.policy import policy_path

EMBEDDED = policy_path("embedded")


def adapter(directory: Path, seed: int, rank: int = 4) -> Path:
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32), settings).save_pretrained(
        directory
    )
    return directory


def logits(path: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32), path)
    with torch.no_grad():
        return model(torch.arange(3, 20)[None]).logits


def test_factors_are_merged_as_tensors_of_the_base_zero(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one", 1), adapter(tmp_path / "two", 2)
    main(["merge", f"--models=[{one}, {two}]", f"--output={tmp_path}/out", "--density=0.5"])
    parts = [load_file(path / "adapter_model.safetensors") for path in (one, two, tmp_path / "out")]
    assert parts[0].keys() == parts[2].keys()
    for name, merged in parts[2].items():
        # Each factor carries the square root of alpha / r = 2, which the merged adapter no longer has.
        expected = 2**0.5 * ties([parts[0][name], parts[1][name]], torch.ones(2), density=0.5)
        torch.testing.assert_close(merged, expected)
    assert json.loads((tmp_path / "out" / "merge.json").read_text())["method"] == "ties"
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert not (tmp_path / "out" / "config.json").exists(), "an adapter is no model"


def test_updates_of_adapters_that_are_the_same_merge_to_the_same(tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", 1)
    out = tmp_path / "out"
    main(["merge", f"--models=[{one}, {one}]", f"--output={out}", "--density=0.9999999", "--lora=ties_svd"])
    torch.testing.assert_close(logits(out), logits(one), atol=0.05, rtol=0.01)


def test_adapters_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one, wide = adapter(tmp_path / "one", 1), adapter(tmp_path / "wide", 2, rank=8)
    for models, message in [
        (f"[{one}, {wide}]", r"the adapter .*wide has r 8, .*one has 4; merge adapters of one shape"),
        (f"[{one}, embedded]", "models holds full models and adapters"),
    ]:
        with pytest.raises(BadInput, match=message):
            main(["merge", f"--models={models}", f"--output={tmp_path}/out"])
