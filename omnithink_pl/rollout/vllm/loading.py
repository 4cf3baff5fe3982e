"""New weights for a running engine, whose layers may keep them in another form than checkpoints have.

Where vLLM starts, it brings weights into the form that its kernels need: packed for oneDNN on a CPU, experts permuted
for a kernel on a GPU. New ones go through the same by its layerwise reload, in place, so that CUDA graphs stay valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def load_every_weight(model: torch.nn.Module, config: VllmConfig, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load weights, named and shaped as in a checkpoint, into vLLM's model.

    Raises:
        RuntimeError: If a weight of the model is not among them.
    """
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    with set_current_vllm_config(config):
        _forget_expert_kernels(model)
        initialize_layerwise_reload(model)
        try:
            loaded: set[str] = model.load_weights(iter(weights))  # type: ignore[operator]
        finally:
            finalize_layerwise_reload(model, config.model_config)
            _process_tied(model)
    # Around a layer that adapters can be served beside, vLLM puts another, which loading looks through.
    left_out = sorted({name.replace(".base_layer.", ".") for name, _ in model.named_parameters()} - loaded)
    if left_out:
        raise RuntimeError(f"the policy has no value for the engine's {', '.join(left_out[:5])}")


def _forget_expert_kernels(model: torch.nn.Module) -> None:
    """Have vLLM 0.32 make the kernels of experts anew on a CPU: it packs their weights only where it makes one."""
    from vllm.platforms import current_platform

    for layer in model.modules() if current_platform.is_cpu() else ():
        method: Any = getattr(layer, "quant_method", None)
        if hasattr(method, "moe_kernel"):
            method.moe_kernel = None


def _process_tied(model: torch.nn.Module) -> None:
    """Bring tied heads into the form of their kernel: they get no weights of their own, and may hold old ones."""
    seen: set[int] = set()
    for layer in model.modules():
        weight, method = layer._parameters.get("weight"), getattr(layer, "quant_method", None)
        if weight is not None and method is not None:
            if id(weight) in seen:
                method.process_weights_after_loading(layer)
            seen.add(id(weight))
