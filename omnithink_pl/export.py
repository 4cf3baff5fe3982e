"""Saving a trained policy in Hugging Face format."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from omnithink_pl.rollout.vllm.weights import named_weights
from omnithink_pl.sharding import gathered

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from omnithink_pl.policy import Policy

ADAPTER = "adapter"


def save_policy(policy: Policy, directory: Path, here: bool = True) -> None:
    """Save a policy so that ``from_pretrained``, vLLM and ``model.policy`` can load it.

    Adapters are added to the weights that they adapt; by themselves they lie in the folder ``adapter``, for
    ``PeftModel.from_pretrained``. Of a sharded policy one tensor is gathered at a time: all processes must call this.

    Args:
        policy: Any policy that is trained here.
        directory: Made if it does not exist.
        here: Whether this process is the one that writes.

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
    """The model itself, or for one of quantised weights an empty shell that does not say so: what is saved is whole."""
    if not hasattr(model.config, "quantization_config"):
        return model
    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.device("meta"):
        return type(model)(config).to(model.dtype)
