"""New weights for a running engine, whose layers may keep them in another form than checkpoints have.

Where vLLM starts, it brings weights into the form that its kernels need: packed for oneDNN on a CPU, experts permuted
for a kernel on a GPU. New ones go through the same by its layerwise reload, in place, so that CUDA graphs stay valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def load_every_weight(
    model: torch.nn.Module, config: VllmConfig, weights: Iterable[tuple[str, torch.Tensor]]
) -> None:
    """Load weights, named and shaped as in a checkpoint, into vLLM's model.

    Raises:
        RuntimeError: If a weight of the model is not among them.
    """
    from vllm.config import set_current_vllm_config

    with set_current_vllm_config(config):
        begin_reload(model)
        try:
            loaded: set[str] = model.load_weights(iter(weights))  # type: ignore[operator]
        finally:
            end_reload(model, config)
    check_every_weight(model, loaded)


def begin_reload(model: torch.nn.Module) -> None:
    """Let a model take weights as checkpoints have them, until :func:`end_reload`; it computes nothing meanwhile."""
    from vllm.model_executor.model_loader.reload import initialize_layerwise_reload
    from vllm.platforms import current_platform

    if current_platform.is_cpu():  # vLLM 0.32 packs experts only where it makes their kernel: let it make that anew
        methods = (getattr(layer, "quant_method", None) for layer in model.modules())
        for method in methods:
            if hasattr(method, "moe_kernel"):
                method.moe_kernel = None
    initialize_layerwise_reload(model)


def end_reload(model: torch.nn.Module, config: VllmConfig) -> None:
    """Bring what was loaded into the form of the kernels; layers that got nothing keep their weights."""
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

    finalize_layerwise_reload(model, config.model_config)
    seen: set[int] = set()
    for layer in model.modules():  # a tied head gets no weights of its own, and may have packed the old ones
        weight = layer._parameters.get("weight")
        if weight is not None and id(weight) in seen:
            layer.quant_method.process_weights_after_loading(layer)  # type: ignore[union-attr, operator]
        seen.add(id(weight))


def check_every_weight(model: torch.nn.Module, loaded: set[str]) -> None:
    """Raise ``RuntimeError`` if a weight of vLLM's model is not among those that were loaded."""
    # Around a layer that adapters can be served beside, vLLM puts another, which loading looks through.
    left_out = sorted({name.replace(".base_layer.", ".") for name, _ in model.named_parameters()} - loaded)
    if left_out:
        raise RuntimeError(f"the policy has no value for the engine's {', '.join(left_out[:5])}")
