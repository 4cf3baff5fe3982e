"""Matrix products of linear layers on a CPU: by the faster library, and with weights that decoding prepares once.

PyTorch multiplies float32 matrices by MKL, which uses AVX-512 on Intel's processors alone. oneDNN, which PyTorch has
too, uses it on any: on an AMD EPYC it reaches 230 GFLOP/s with one core where MKL reaches 106. Both compute in float32
and differ by the order of their sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Multiplications of a product, and numbers of a prepared weight: below, the longer call of oneDNN (10 microseconds)
# costs more than it saves. A rule decides, not a measurement, so that a resumed run repeats another bit for bit.
LEAST, LEAST_PREPARED = 2**20, 2**16
PART = 2**22  # numbers of a product that is added to another: 16 MiB in float32


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def onednn_is_faster() -> bool:
    """Return whether the processor has AVX-512 and MKL does not use it."""
    return _onednn_is_faster()


@cache
def _onednn_is_faster() -> bool:
    capabilities = torch.cpu.get_capabilities()
    avx512 = bool(capabilities.get("avx512_f")) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return avx512 and "Intel" not in str(capabilities.get("cpu_name"))


class OneDNNLinear(nn.Linear):
    """A linear layer that computes :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (PyTorch's name)
        """Return the product, with the bias if there is one."""
        return linear(input, self.weight, self.bias)


def use_faster_products(model: nn.Module) -> None:
    """Let the linear layers of a model use :func:`linear`; gradients, state and exports stay as they are.

    It stays, because gradient checkpointing runs layers again in the backward pass. Their class is changed: a forward
    of its own in each would have ``torch.compile`` compile each anew. Layers that an adapter wraps are linear layers
    too; those that a library has replaced (bitsandbytes) keep their own products.
    """
    if onednn_is_faster():
        for layer in _linear_layers(model):
            layer.__class__ = OneDNNLinear


def is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Return whether a layer is a product and a bias, and nothing that another class may add."""
    return type(layer) in {nn.Linear, OneDNNLinear}


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``inputs @ weight.T + bias``, with gradients, as ``torch.nn.functional.linear`` does.

    Args:
        inputs: ``[..., size]``.
        weight: ``[outputs, size]``, may be a transposed view.
        bias: ``[outputs]``.
    """
    if not _suits_onednn(inputs, weight):
        return nn.functional.linear(inputs, weight, bias)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (inputs, weight, bias)):
        return _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return _onednn(inputs, weight, bias)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to a total in place, without gradient; what it needs beside the total is small."""
    if left.dtype == total.dtype and not _suits_onednn(left, right.T):
        total.addmm_(left, right)
        return
    if total.is_cuda and type(total) is Tensor and total.dtype == torch.float32:
        # cuBLAS adds up half precision in float32. Parts of 16 MiB took a fifth of a pass on an H100.
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
        return
    rows = max(1, PART // right.shape[1])
    for part, factor in zip(torch.split(total, rows), torch.split(left, rows), strict=True):
        part += linear(factor, right.T)


@contextmanager
def prepared_weights(model: PreTrainedModel) -> Iterator[None]:
    """Prepare the weights of all linear layers for many small products; inside they must neither change nor be trained.

    Decoding multiplies by every weight once a token. Autocast would cast all of them as often, because Lightning
    disables its cache, and oneDNN would reorder them. Here that is done once, at the price of a copy.
    """
    device = model.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with ExitStack() as stack:
        for layer in _linear_layers(model):
            if type(layer.weight.data) is not Tensor:  # quantised: the library's own product
                continue
            known = (dtype or layer.weight.dtype) in {torch.float32, torch.bfloat16}
            packs = known and device == "cpu" and onednn_is_faster() and layer.weight.numel() >= LEAST_PREPARED
            if packs or dtype:
                stack.enter_context(replaced_forward(layer, _prepared(layer, dtype, packs)))
        yield


@contextmanager
def replaced_forward(module: nn.Module, forward: object) -> Iterator[None]:
    """Replace a module's forward inside; its hooks stay in place."""
    before = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if is_plain(module)]


def _prepared(layer: nn.Linear, dtype: torch.dtype | None, packs: bool) -> Any:
    """Return a forward with the weight in ``dtype``, if given, and in oneDNN's layout, if ``packs``."""
    weight, given = layer.weight.detach(), layer._parameters["bias"]
    if dtype is not None:
        weight = weight.to(dtype)
    bias = None if given is None else given.detach().to(weight.dtype)
    if packs:
        weight = torch.ops.mkldnn._reorder_linear_weight(weight)
    multiply = _onednn if packs else nn.functional.linear

    def forward(inputs: Tensor) -> Tensor:
        return multiply(inputs if dtype is None else inputs.to(dtype), weight, bias)

    return forward


def _suits_onednn(inputs: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN is faster here; tensors of subclasses (sharded, quantised, fake) are left to PyTorch."""
    return (
        onednn_is_faster()
        and type(inputs) is Tensor
        and type(weight) in {Tensor, nn.Parameter}
        and inputs.ndim > 1
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.numel() * len(weight) >= LEAST
        and not torch.is_autocast_enabled("cpu")
    )


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler would look into it, and knows it for frozen weights only
        return _opaque_onednn(inputs, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(inputs, weight, bias, "none", [], "")
    return found


@torch.library.custom_op("omnithink_pl::linear", mutates_args=())
def _opaque_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn(inputs, weight, bias)


@_opaque_onednn.register_fake
def _shape_of_product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return inputs.new_empty((*inputs.shape[:-1], len(weight)))


class _Linear(torch.autograd.Function):
    """The three products of a linear layer: output, gradient of the inputs, gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs if ctx.needs_input_grad[1] else None, weight)  # not below a frozen weight
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        gradient, needed = gradients[0].flatten(0, -2), ctx.needs_input_grad
        by_inputs = linear(gradients[0], weight.T) if needed[0] else None
        by_weight = linear(gradient.T, inputs.flatten(0, -2).T) if needed[1] else None
        return by_inputs, by_weight, gradient.sum(0) if needed[2] else None
