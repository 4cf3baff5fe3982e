"""What an architecture allows, read from its config before any weights are; one that cannot be trained is refused."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig

from omnithink_pl.errors import BadInput

log = logging.getLogger(__name__)

# How configs name the longest sequence. Most aliases (GPT-2's n_positions) transformers maps to the first by itself.
CONTEXT = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "seq_length", "context_length")
# Context of a model without positions: state spaces (Mamba), ALiBi (Bloom), relative positions. What its tokenizer was
# trained for counts instead; transformers writes 1e30 where that is not known.
UNLIMITED = 2**20
# RoPE of which transformers chooses the frequencies by the longest sequence of the batch ...
BY_BATCH = ("longrope", "dynamic")
# ... and attention that selects among more keys than this, padding and later ones too: DeepSeek V3.2's, Doge's.
SELECTION = ("index_topk", "keep_window_size")
# MiniMax M3 chooses blocks of keys, counted from where a row begins with its padding, and hides those after the block
# that a token without padding would be in: of a padded row the latest tokens, unless all of it is one block.
BLOCK_SPARSE = "minimax_m3_sparse"


def load_config(path: str, key: str = "model.policy", trust_remote_code: bool = False) -> PretrainedConfig:
    """Read a model's config, and warn where its context is limited.

    Args:
        path: Directory or hub id.
        key: What the user set to it, for messages.
        trust_remote_code: Run code that comes with it.

    Raises:
        BadInput: If there is none, it needs code of its own, or is of no architecture that generates text from text.
    """
    config = read_config(path, key, trust_remote_code)
    text = config.get_text_config(decoder=True)
    positions, limit = _positions(text), _batch_limit(text)
    if limit is not None and not 0 < positions <= limit:
        log.warning(
            "%s: %r is used with a context of %d tokens instead of %d: in longer sequences transformers makes "
            "log-probabilities depend on the other sequences of a batch (LongRoPE, dynamic NTK, sparse attention, or "
            "attention scaled by position)",
            key,
            path,
            limit,
            positions,
        )
    return config


def read_config(path: str, key: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Read a model's config, as ``load_config`` does, without a warning."""
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{key}: {why_unreadable(path, error)}") from error
    brings_code = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not brings_code:
        raise BadInput(
            f"{key}: {path!r} is of the architecture {config.model_type!r}, which AutoModelForCausalLM does not have: "
            f"it does not generate text token by token; use a decoder, such as an instruct model of Qwen or Llama"
        )
    if config.is_encoder_decoder:
        raise BadInput(
            f"{key}: {path!r} is an encoder and a decoder ({config.model_type!r}), of which only the decoder would be "
            f"trained, without its prompt; use a decoder-only instruct model, such as Qwen or Llama"
        )
    return config


def why_unreadable(path: str, error: Exception) -> str:
    """Return why transformers cannot load a config or a tokenizer, and the cure."""
    first = str(error).strip().partition("\n")[0]
    if "trust_remote_code" in str(error):
        return (
            f"{path!r} brings code of its own (auto_map in its JSON files), which is not executed; use a model that "
            f"transformers has built in, or one that was converted to it. If it is the policy, and you have read that "
            f"code and trust its author with all that this user may do: model.trust_remote_code: true"
        )
    if isinstance(error, OSError):
        return f"{path!r} has no readable config.json ({first}); give a directory in Hugging Face format or a hub id"
    return f"transformers cannot read the config of {path!r} ({first}); upgrade transformers, or use another model"


def attention_of(config: PretrainedConfig) -> str | None:
    """Return the attention that a model needs; ``None`` for transformers' own choice.

    Gemma 2 caps its attention scores. Only the eager implementation does that; sdpa, the default, leaves it out
    without a word.
    """
    text = config.get_text_config(decoder=True)
    return "eager" if getattr(text, "attn_logit_softcapping", None) else None


def context_length(config: PretrainedConfig, tokenizer_limit: int | None = None) -> int:
    """Return how many tokens prompt and completion may have together.

    A composite config (Gemma 3, Qwen 3.5) has it in its text part. It ends where a completion's log-probabilities would
    depend on the other sequences of its batch: for Phi-3-128k, which has LongRoPE, at 4096 tokens.

    Args:
        config: The model's.
        tokenizer_limit: ``model_max_length`` of the tokenizer, which counts where the config has no limit.
    """
    text = config.get_text_config(decoder=True)
    limits = [limit for limit in (_positions(text), _batch_limit(text)) if limit is not None and limit > 0]
    if limits:
        return min(limits)
    return min(tokenizer_limit or UNLIMITED, UNLIMITED)


def _positions(text: PretrainedConfig) -> int:
    """Return the number of positions; 0 if there is no limit."""
    found = [value for name in CONTEXT if isinstance(value := getattr(text, name, None), int) and value > 0]
    return found[0] if found else 0


def _batch_limit(text: PretrainedConfig) -> int | None:
    """Return the longest sequence whose log-probabilities depend on no other one; ``None`` if all are such."""
    limits = [
        rope.get("original_max_position_embeddings")
        for rope in _rope_parameters(getattr(text, "rope_parameters", None))
        if any(kind in str(rope.get("rope_type")) for kind in BY_BATCH)
    ]
    limits += [getattr(text, name, None) for name in SELECTION]
    if BLOCK_SPARSE in (getattr(text, "layer_types", None) or ()):
        limits.append(text.index_block_size)
    if getattr(text, "attn_temperature_tuning", False) and 0 in text.no_rope_layers:
        limits.append(text.floor_scale - 1)  # Llama 4 scales by the place in the row, padding included, from there on
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def _rope_parameters(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """Yield RoPE's parameters: one set, or one for each type of layer."""
    if not isinstance(parameters, Mapping):
        return
    if "rope_type" in parameters:
        yield parameters
        return
    for inner in parameters.values():
        yield from _rope_parameters(inner)


def accepted(model: nn.Module, **arguments: Any) -> dict[str, Any]:
    """Return those arguments that a model's forward names or takes as ``**kwargs``.

    Older ones name no ``position_ids``, which they derive from the mask, or no ``logits_to_keep``, which saves memory.
    """
    names = forward_parameters(model)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in names.values())
    return {name: value for name, value in arguments.items() if takes_any or name in names}


def forward_parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a model's forward; of the base model's if it is wrapped by PEFT."""
    base: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    kind: Any = type(base)
    return _parameters(kind)


@lru_cache
def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.forward).parameters
