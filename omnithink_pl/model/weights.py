"""The policy's present weights under the names of its checkpoint, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# What PEFT puts into the names of a model that it wraps.
_WRAPPER, _WRAPPED = "base_model.model.", ".base_layer"
_SCALES = ".weight."  # what bitsandbytes keeps beside a weight of four bits


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each weight as a plain tensor; at no time is there more than one that the model does not hold itself.

    Adapters (LoRA) are added to the weights that they adapt, without touching either; within
    ``model.disable_adapter()`` they are left out. Weights of four bits come in the type that they compute in.
    Parameters that are sharded over processes (DTensor, FSDP2) are gathered, so every process must iterate. Weights
    that share their memory come once.

    Args:
        model: A causal language model, or one wrapped by PEFT.

    Yields:
        Name, without what PEFT adds to it, and value.

    Raises:
        BadInput: If it carries an adapter of a kind that cannot be merged here.
    """
    deltas = _adapted(model)
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen or "lora_" in name or _SCALES in name:
            continue
        seen.add(id(value))
        layer, _, leaf = name.rpartition(".")
        plain = name.removeprefix(_WRAPPER).replace(_WRAPPED, "")
        yield (
            plain,
            _merged(
                _dequantised(value).detach(), deltas.get(layer.removesuffix(_WRAPPED)) if leaf == "weight" else None
            ),
        )


def _dequantised(weight: Tensor) -> Tensor:
    if type(weight).__name__ != "Params4bit":
        return weight
    from peft.utils.integrations import dequantize_bnb_weight

    return dequantize_bnb_weight(weight)


def _adapted(model: PreTrainedModel) -> dict[str, Any]:
    """The LoRA layers of a model by name; importing PEFT is left to those who use it."""
    if not hasattr(model, "peft_config"):
        return {}
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    layers: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) or (
            isinstance(module, BaseTunerLayer) and not isinstance(module, LoraLayer)
        ):
            raise BadInput(
                f"the engine cannot take over {name!r}, an adapter of kind {type(module).__name__}; use plain LoRA "
                f"without modules_to_save"
            )
        if isinstance(module, LoraLayer):
            if getattr(module, "use_dora", {}) and any(module.use_dora.values()):
                raise BadInput(f"the engine cannot take over {name!r}: DoRA; use plain LoRA")
            layers[name] = module
    return layers


def _merged(weight: Tensor, layer: Any) -> Tensor:
    """A weight in full, with the adapters that act on it."""
    gather = getattr(weight, "full_tensor", None)
    full: Tensor = weight if gather is None else gather()
    if layer is None or layer.disable_adapters or layer.merged:
        return full
    for adapter in layer.active_adapters:
        if adapter in layer.lora_A or adapter in layer.lora_embedding_A:
            delta = layer.get_delta_weight(adapter)
            gather = getattr(delta, "full_tensor", None)
            full = full + (delta if gather is None else gather()).to(full.dtype)
    return full
