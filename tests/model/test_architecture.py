"""What is known of a model from its config: whether it can be trained, and its context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Qwen2ForCausalLM

from omnithink_pl.errors import BadInput
from omnithink_pl.model.architecture import UNLIMITED, accepted, attention_of, context_length, load_config
from omnithink_pl.model.policy import load_policy
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.model.architectures import saved, tiny, tokenizer
from tests.rollout.agreement import distance
from tests.tiny import random_tokens

LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 48, "long_factor": [4.0] * 48}
BLOCKS = {"num_hidden_layers": 2, "layer_types": ["full_attention", "minimax_m3_sparse"]}


def config(kind: str, **given: Any) -> Any:
    return type(AutoConfig.for_model(kind))(**given)


@pytest.mark.parametrize(
    ("kind", "given", "context"),
    [
        ("qwen2", {"max_position_embeddings": 4096}, 4096),
        ("gpt2", {"n_positions": 512}, 512),
        ("mpt", {"max_seq_len": 300}, 300),
        ("gemma3", {"text_config": {"max_position_embeddings": 777}}, 777),
        ("phi3", {"max_position_embeddings": 131072, "rope_parameters": LONGROPE}, 4096),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, 2048),
        ("deepseek_v32", {"index_topk": 512}, 512),
        ("minimax_m3_vl_text", {"max_position_embeddings": 4096}, 4096),
        ("minimax_m3_vl_text", {"max_position_embeddings": 4096} | BLOCKS, 128),
        ("llama4_text", {}, 8191),
        ("llama4_text", {"attn_temperature_tuning": False, "max_position_embeddings": 9000}, 9000),
        ("llama4_text", {"no_rope_layers": [1] * 48, "max_position_embeddings": 9000}, 9000),
        ("bloom", {}, 1000),
        ("mamba", {}, 1000),
        ("xlnet", {}, 1000),  # whose config says -1
    ],
)
def test_the_context_is_found(kind: str, given: dict[str, Any], context: int) -> None:
    assert context_length(config(kind, **given), tokenizer_limit=1000) == context


@pytest.mark.parametrize(
    ("kind", "given", "context"),
    [
        ("minimax_m3_vl_text", {"index_n_heads": 2, "index_head_dim": 8, "index_block_size": 40} | BLOCKS, 40),
        ("llama4_text", {"floor_scale": 41, "no_rope_layers": [1, 0]}, 40),
        ("doge", {"num_key_value_heads": 4, "keep_window_size": 40}, 40),
    ],
)
def test_within_the_context_padding_changes_nothing(
    kind: str, given: dict[str, Any], context: int, tmp_path: Path
) -> None:
    """Of a short prompt that is sampled beside a long one; where either is longer, it does."""
    policy, engine = load_policy(saved(tiny(kind, **given), tmp_path)), TransformersEngine()
    engine.attach(policy)
    assert policy.context == context
    assert distance(engine, policy.model, Sampling(2, max_tokens=12), random_tokens(3, context - 12)) < 1e-4


def test_without_any_limit_there_is_a_high_one() -> None:
    assert context_length(config("mamba"), tokenizer_limit=int(1e30)) == UNLIMITED


def test_a_context_below_the_models_own_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config("phi3", max_position_embeddings=131072, rope_parameters=LONGROPE).save_pretrained(tmp_path)
    load_config(str(tmp_path))
    assert "context of 4096 tokens instead of 131072" in caplog.text


def test_capped_attention_scores_need_eager_attention(tmp_path: Path) -> None:
    assert attention_of(config("gemma2")) == attention_of(config("vaultgemma")) == "eager"
    assert attention_of(config("gemma3")) is attention_of(config("llama")) is None
    name = saved(tiny("gemma2"), tmp_path)
    for weights in (True, False):
        assert load_policy(name, weights=weights).model.config._attn_implementation == "eager"


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("t5", {}, "'t5', which AutoModelForCausalLM does not have.*use a decoder"),
        ("clip", {}, "'clip', which AutoModelForCausalLM does not have.*use a decoder"),
        ("bart", {}, "an encoder and a decoder.*use a decoder-only"),
        ("llama", {"model_type": "newest"}, "cannot read the config.*newest.*upgrade transformers"),
        ("llama", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, "code of its own.*built in"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_config(
    kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config(kind).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    rewrite(tmp_path / "config.json", **changes)
    with pytest.raises(BadInput, match=message):
        load_policy(str(tmp_path))


def test_a_directory_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read the config .*model_type"):
        load_config(str(tmp_path))
    with pytest.raises(BadInput, match=r"no readable config\.json"):
        load_config(str(tmp_path / "nowhere"))


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    model = tiny("qwen2", tie_word_embeddings=False)
    assert isinstance(model, Qwen2ForCausalLM)
    model.save_pretrained(tmp_path, state_dict={f"model.{n}": p for n, p in model.model.state_dict().items()})
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"lacks 1 weights, such as lm_head\.weight.*with its head"):
        load_policy(str(tmp_path))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    name = saved(tiny("qwen2"), tmp_path)
    rewrite(tmp_path / "config.json", vocab_size=130)
    with pytest.raises(
        BadInput, match=r"2 weights .* do not fit .*lm_head\.weight: \(128, 64\) instead of \(130, 64\)"
    ):
        load_policy(name)


def test_experts_that_cannot_be_put_together_are_refused(tmp_path: Path) -> None:
    name = saved(tiny("qwen3_moe"), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    first = "model.layers.0.mlp.experts.0.down_proj.weight"
    save_file(weights | {first: weights[first][:5].clone()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"the weights of .* cannot be read \(.*conversion"):
        load_policy(name)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    config("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_policy(str(tmp_path))


class Narrow(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> None: ...


def test_arguments_that_a_forward_does_not_take_are_left_out() -> None:
    given = {"position_ids": torch.tensor([[0]]), "logits_to_keep": 1}
    with torch.device("meta"):
        assert accepted(tiny("llama"), **given).keys() == given.keys()
    assert accepted(Narrow(), **given).keys() == {"position_ids"}
