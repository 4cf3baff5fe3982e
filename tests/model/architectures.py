"""Tiny random models of many architectures, saved as a user's directory: config, weights, tokenizer with a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

EOS, CHARACTERS = 2, [chr(code) for code in range(32, 127)]
HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
SMALL_VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
# What a config calls its sizes; each gets those that it has. A wide initialisation lets mistakes show.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size"), 64),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "shared_intermediate_size"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads", "num_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "state_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("linear_num_key_heads", "num_key_value_heads", "num_experts_per_tok"), 2),
    "head_dim": 16,
    "rotary_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "linear_num_value_heads": 4,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 128,
    "num_kv_shared_layers": 0,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}


def tiny(kind: str, **given: Any) -> PreTrainedModel:
    """Build a random model of an architecture, by its ``model_type``."""
    config_class = type(AutoConfig.for_model(kind))
    default = config_class()
    if (text := default.get_text_config(decoder=True)) is not default:
        config = config_class(text_config=_sizes(text), **given)
    else:
        config = config_class(**_sizes(default) | given)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def _sizes(config: Any) -> dict[str, Any]:
    """Return those of the sizes that a config has, under the name that it prefers."""
    names = vars(config).keys() - config.attribute_map.keys()
    return {name: value for name, value in SIZES.items() if name in names}


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each printable character, and a chat template."""
    words = ["<pad>", "<s>", "</s>", *CHARACTERS]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}>"
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=template
    )


def saved(model: PreTrainedModel, directory: Path) -> str:
    """Save a model with the tokenizer; return what ``model.policy`` takes."""
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return str(directory)
