"""The dtype of a policy's forward passes: one for training, sampling, checks and evaluation."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from omnithink_pl.errors import BadInput
from omnithink_pl.model.sharding import sharded_modules

# What `trainer.precision` says of forward passes; of the others, the dtype of the weights says all.
MIXED = {"bf16-mixed": torch.bfloat16}


def compute_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype that forward passes compute in under a ``trainer.precision``; ``None``: that of the weights.

    Raises:
        BadInput: For float16, whose gradients need a loss scale that we do not keep.
    """
    if precision == "16-mixed":
        raise BadInput(
            "trainer.precision: 16-mixed scales the loss, and with it the gradients that are clipped; use bf16-mixed"
        )
    return MIXED.get(precision)


def computing(model: nn.Module, dtype: torch.dtype | None) -> torch.autocast:
    """Let forward passes inside compute in ``dtype``, whatever autocast is on outside.

    Lightning's autocast is on during a training step alone: an evaluation would sample in another precision, and an
    engine with weights of its own would be cast too. A sharded model casts by itself: see :func:`gathered_in`.

    Args:
        model: Whose forward passes they are.
        dtype: As :func:`compute_dtype` returns it.
    """
    device = next(model.parameters()).device.type
    if dtype is None or sharded_modules(model):
        return torch.autocast(device, enabled=False)
    return torch.autocast(device, dtype, cache_enabled=False)  # as Lightning's: a cache would keep old weights


def gathered_in(dtype: torch.dtype | None) -> MixedPrecisionPolicy:
    """Return how FSDP2 computes in a dtype: weights are gathered in it, gradients are summed in float32.

    Under autocast weights would be gathered in float32, twice as many bytes, and every cast of one kept for the
    backward pass; the residual stream would be float32 too.
    """
    if dtype is None:
        return MixedPrecisionPolicy()
    # Inputs need no cast: with such weights all of a model is in that dtype. To cast them FSDP2 would copy dataclasses,
    # and so lose what the packed attention counts.
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
