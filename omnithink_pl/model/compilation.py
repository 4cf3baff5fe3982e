"""Layers compiled by ``torch.compile``: their elementwise work becomes a few kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import layers


def compile_layers(model: PreTrainedModel, device: torch.device) -> None:
    """Compile each layer of a model for passes with gradients, in place; to be called before it is sharded.

    Norms, rotary positions, gates and casts are fused; attention over packed rows stays what it is, between compiled
    parts. What :mod:`omnithink_pl.model.logprobs` makes of logits is compiled then too. Passes without gradients, as in
    sampling and evaluation, run the layers as they are: their shapes change with every token. Names, state and hooks
    stay, and so do results but for rounding.

    Args:
        model: On any device, also ``meta``.
        device: Where it will be computed.

    Raises:
        BadInput: If the model does not name its layers, or there is no compiler for its device.
    """
    found = layers(model)
    if not found:
        raise BadInput(
            f"model.memory.compile_layers: {type(model).__name__} does not say what its layers are; leave it false"
        )
    _check_compiler(device)
    for layer in found:
        layer.forward = partial(_forward, layer.forward, torch.compile(layer.forward, dynamic=True))


def is_compiled(model: PreTrainedModel) -> bool:
    """Return whether the layers of a model are compiled."""
    forwards = (layer.__dict__.get("forward") for layer in layers(model))
    return any(isinstance(forward, partial) and forward.func is _forward for forward in forwards)


def _forward(own: Callable[..., Any], compiled: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return own(*args, **kwargs)
    found = compiled(*args, **kwargs)
    # A compiled sum with a product may be a view of its result. FSDP2's hooks hang on a layer's output, and on a view
    # they are easily lost, of which it warns.
    return found.clone() if isinstance(found, Tensor) and found._is_view() else found


def _check_compiler(device: torch.device) -> None:
    """Compile a line, lest a missing compiler is noticed as late as in a layer and told as it is there."""
    try:
        torch.compile(lambda numbers: 2 * numbers + 1)(torch.ones(8, device=device))
    except RuntimeError as error:  # such as torch._inductor.exc.InductorError
        why = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"model.memory.compile_layers: torch.compile does not work here ({why}); it needs a C++ compiler, such as "
            f"g++, and on a GPU Triton. Install them, or leave it false"
        ) from error
