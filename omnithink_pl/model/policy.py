"""A policy: its model and tokenizer, loaded from and saved in Hugging Face format."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import gathered
from omnithink_pl.model.weights import named_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from omnithink_pl.types import Message


EMBEDDED = "embedded"


@dataclass
class Policy:
    """A causal language model and its tokenizer.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer, with a chat template and an EOS token.
        version: Number of the present weights: engines that hold this version need not take them over again.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    version: int = 0

    def weights_changed(self) -> None:
        """Count a new version; to be called by whatever writes weights."""
        self.version += 1

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a chat prompt, ready for the assistant's turn."""
        return list(
            self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a completion, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    @property
    def eos_id(self) -> int:
        """The token that ends a completion."""
        return int(self.tokenizer.eos_token_id)

    @property
    def context(self) -> int:
        """Tokens that prompt and completion may have together."""
        return int(self.model.config.max_position_embeddings)


def policy_path(name: str) -> str:
    """Return the directory of the packaged policy for ``embedded``, and any other name as it is."""
    return str(files("omnithink_pl.embedded") / "policy") if name == EMBEDDED else name


def load_policy(name: str, dtype: torch.dtype = torch.float32, four_bits: bool = False, weights: bool = True) -> Policy:
    """Load a policy from the package, a local directory or the Hugging Face hub.

    Args:
        name: ``embedded``, a local directory, or a hub id.
        dtype: Of the parameters.
        four_bits: Store linear layers in NF4 by bitsandbytes and compute in ``dtype``.
        weights: Read them; otherwise parameters and buffers are on the device ``meta``, to be filled by ``shard``.

    Raises:
        BadInput: If ``name`` looks like a path and does not exist, the tokenizer lacks a chat template
            or an EOS token, or bitsandbytes is needed and missing.
    """
    tokenizer = load_tokenizer(name)
    quantization = _nf4(dtype) if four_bits else None
    path = policy_path(name)
    if not weights:
        return Policy(_empty(path, dtype), tokenizer)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, quantization_config=quantization)
    return Policy(model, tokenizer)


def _empty(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """Build the model without storage; only its configuration is read."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=dtype)
    with suppress(OSError):  # there need not be one
        model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def load_tokenizer(name: str, key: str = "model.policy") -> PreTrainedTokenizerBase:
    """Load a policy's tokenizer.

    Args:
        name: As of ``load_policy``.
        key: Key of the config, for messages.

    Raises:
        BadInput: If there is none, or it lacks a chat template or an EOS token.
    """
    path = policy_path(name)
    if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
        raise BadInput(f"{key}: no directory {path!r}; give a directory, a hub id or 'embedded'")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    except OSError as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"{key}: {name!r} is no directory with a tokenizer, and cannot be had from the hub ({why}); give a "
            f"directory in Hugging Face format, a hub id, or 'embedded'"
        ) from error
    for attribute in ("chat_template", "eos_token_id"):
        if getattr(tokenizer, attribute) is None:
            raise BadInput(f"{key}: the tokenizer of {name!r} has no {attribute}; use an instruct model")
    return tokenizer


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's storage: four-bit normal floats, double quantised."""
    if find_spec("bitsandbytes") is None:
        raise BadInput(
            "model.adapter.weights is nf4, which needs bitsandbytes: pip install 'omnithink-pl[bitsandbytes]'"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def ready_to_train(model: PreTrainedModel, gradient_checkpointing: bool = False) -> PreTrainedModel:
    """Put a model into training mode, without dropout: probability ratios must be deterministic.

    Args:
        model: Any.
        gradient_checkpointing: Keep only the input of each layer, and recompute the rest in the backward pass.
    """
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    return model.train()


ADAPTER = "adapter"


def save_policy(policy: Policy, directory: Path, here: bool = True) -> None:
    """Save a policy so that ``from_pretrained``, vLLM and ``model.policy`` can load it.

    Adapters are merged into the weights, and also saved by themselves in the folder ``adapter``, for
    ``PeftModel.from_pretrained``. A sharded policy is gathered tensor by tensor: all processes must call this.

    Args:
        policy: The policy.
        directory: Created if it does not exist.
        here: Whether this process writes.

    Raises:
        OSError: If a file cannot be written.
    """
    model, adapted = policy.model, hasattr(policy.model, "peft_config")
    base = model.get_base_model() if adapted else model
    weights = {}
    with torch.no_grad():
        for name, value in named_weights(model):
            if here:
                weights[name] = value.cpu()
    adapter = gathered({n: p for n, p in model.named_parameters() if p.requires_grad}) if adapted else {}
    if not here:
        return
    _plain(base).save_pretrained(directory, state_dict=weights)
    policy.tokenizer.save_pretrained(directory)
    if adapted:
        model.save_pretrained(directory / ADAPTER, state_dict=adapter)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model; for quantised weights, an empty one whose config does not say so: full weights are saved."""
    if not hasattr(model.config, "quantization_config"):
        return model
    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.device("meta"):
        return type(model)(config).to(model.dtype)
