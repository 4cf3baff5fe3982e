"""The policy's weights under the names of its checkpoint, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from omnithink_pl.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PEFT_PREFIX, _PEFT_BASE = "base_model.model.", ".base_layer"  # in the names of a model that PEFT wraps
_SCALES = ".weight."  # in the names of what bitsandbytes keeps beside a 4-bit weight


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight as a plain tensor, never more than one that the model does not hold itself.

    Adapters (LoRA) are merged into copies of the weights that they adapt, or left out within
    ``model.disable_adapter()``. 4-bit weights are dequantised. Sharded parameters (DTensor, FSDP2) are gathered, so
    every process must iterate. Tied weights come once.

    Args:
        model: A causal language model, or one wrapped by PEFT.

    Yields:
        Name in the checkpoint of the unwrapped model, and value.

    Raises:
        BadInput: If it has an adapter of a kind that cannot be merged here.
    """
    adapted = _lora_layers(model)
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen or "lora_" in name or _SCALES in name:
            continue
        seen.add(id(value))
        module, _, leaf = name.rpartition(".")
        layer = adapted.get(module.removesuffix(_PEFT_BASE)) if leaf == "weight" else None
        yield name.removeprefix(_PEFT_PREFIX).replace(_PEFT_BASE, ""), _merged(_dequantised(value).detach(), layer)


def _dequantised(weight: Tensor) -> Tensor:
    if type(weight).__name__ != "Params4bit":
        return weight
    from peft.utils.integrations import dequantize_bnb_weight

    return dequantize_bnb_weight(weight)


def _lora_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Return the LoRA layers of a model by name; PEFT is imported only if the model uses it."""
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
    """Return a weight, gathered and with its active adapters."""
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
