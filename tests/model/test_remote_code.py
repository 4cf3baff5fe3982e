"""Code that comes with a model runs only where the user has said so, and nothing asks on the terminal."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import dynamic_module_utils

import callbacks
import omnithink_pl
from omnithink_pl.errors import BadInput
from omnithink_pl.merge import Merge
from omnithink_pl.model.export import check_export
from omnithink_pl.model.policy import load_policy, load_tokenizer, save_policy
from tests.model.architectures import tiny, tokenizer

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path({marker!r}).touch()

class Config(LlamaConfig):
    model_type = "own"

class Model(LlamaForCausalLM):
    config_class = Config

class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
PACKAGES = [Path(package.__file__ or "").parent for package in (omnithink_pl, callbacks)]


class Yes:
    """What ``yes |`` gives."""

    def readline(self, *_: object) -> str:
        raise AssertionError("asked on the terminal")


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "stdin", Yes())
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return tmp_path / "has-run"


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def own(tmp_path: Path, marker: Path) -> Path:
    """A model, a config and a tokenizer of classes that a file beside the weights defines."""
    made = tmp_path / "own"
    tiny("llama").save_pretrained(made)
    tokenizer().save_pretrained(made)
    (made / "own.py").write_text(CODE.format(marker=str(marker)))
    change(
        made / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    )
    return made


def test_a_policy_with_code_is_refused_unless_it_is_trusted(own: Path, marker: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.policy: .*code of its own.*model\.trust_remote_code: true"):
        load_policy(str(own))
    with pytest.raises(BadInput, match=r"models: .*code of its own"):
        Merge([str(own)] * 2, str(tmp_path / "merged"), base=str(own)).run()
    assert not marker.exists()
    policy = load_policy(str(own), trust_remote_code=True)
    assert marker.exists()
    check_export(policy.model, policy.tokenizer, trust_remote_code=True)
    save_policy(policy, tmp_path / "saved")
    again = load_policy(str(tmp_path / "saved"), trust_remote_code=True)
    for name, value in policy.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)
    empty = load_policy(str(own), weights=False, trust_remote_code=True)
    assert type(empty.model).__name__ == "Model"


def test_a_tokenizer_with_code_is_refused_unless_it_is_trusted(own: Path, marker: Path) -> None:
    tiny("llama").config.save_pretrained(own)  # whose config needs no code
    change(
        own / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": [None, "own.Tokenizer"]},
    )
    try:
        found = type(load_tokenizer(str(own))).__name__
    except BadInput as error:
        assert "code of its own" in str(error)  # noqa: PT017 - or it is read by a class of transformers
    else:
        assert found != "Tokenizer"
    assert not marker.exists()
    assert type(load_tokenizer(str(own), trust_remote_code=True)).__name__ == "Tokenizer"
    assert marker.exists()


def test_every_automatic_class_is_told_whom_to_trust() -> None:
    untold = []
    for path in (path for package in PACKAGES for path in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                automatic = isinstance(node.func.value, ast.Name) and node.func.value.id.startswith("Auto")
                loads = automatic and node.func.attr in {"from_pretrained", "from_config"}
                told = {keyword.arg for keyword in node.keywords} & {"trust_remote_code", None}  # None: **settings
                untold += [f"{path.name}:{node.lineno}"] if loads and not told else []
    assert untold == []
