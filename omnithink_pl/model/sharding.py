"""Models whose parameters are sharded among processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput


def shard(
    model: PreTrainedModel,
    mesh: DeviceMesh,
    precision: MixedPrecisionPolicy = MixedPrecisionPolicy(),  # noqa: B008
) -> None:
    """Shard a model's parameters, gradients and optimiser state among all processes, in place.

    Each of the model's layers (``_no_split_modules``) is gathered when it is computed and resharded after it; the rest
    stays gathered from the forward to the backward pass. Gradients are summed, not averaged: the loss of a batch is the
    sum of its parts.

    Args:
        model: On any device. All processes get the values of the first; those of the others may be on the device
            ``meta``.
        mesh: Lightning's, with the dimensions ``data_parallel`` and ``tensor_parallel``.
        precision: The dtype in which weights are gathered, and so that of the forward pass.

    Raises:
        BadInput: With tensor parallelism, or weights of four bits.
    """
    if mesh["tensor_parallel"].size() > 1:
        raise BadInput(
            "trainer.strategy.init_args: tensor parallelism is not supported; set tensor_parallel_size to 1 and "
            "data_parallel_size to the number of processes"
        )
    if any(parameter.dtype == torch.uint8 for parameter in model.parameters()):
        raise BadInput("model.adapter.weights: nf4 cannot be sharded; use bfloat16, or strategy ddp")
    values = model.state_dict() if torch.distributed.get_rank() == 0 else {}
    divide(model, mesh["data_parallel"], precision)
    # Send each process its part of the first one's parameters, and all of its buffers.
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device=mesh.device_type)
    set_model_state_dict(model, values, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    for buffer in model.buffers():  # those that no checkpoint has too, such as the frequencies of rotary positions
        torch.distributed.broadcast(buffer, 0)


def divide(model: PreTrainedModel, mesh: DeviceMesh, precision: MixedPrecisionPolicy) -> None:
    """Leave each process its part of a model's parameters, whatever their values are."""
    for layer in layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, mp_policy=precision)
    fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=precision)
    for module in sharded_modules(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the layers of a model, each of which is computed as a whole; none if it does not name their classes."""
    names = set(model._no_split_modules or [])
    return [module for module in model.modules() if type(module).__name__ in names]


def sharded_modules(model: nn.Module) -> list[FSDPModule]:
    """Return the modules of a model that are gathered one by one; none if it is not sharded."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Gather a sharded model in every process inside; other models are left as they are.

    Forward passes inside, without gradient, need no collective: processes sample completions of different lengths, and
    so take different numbers of passes. All processes enter and leave together.
    """
    parts = sharded_modules(model)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(id(part) != id(model), recurse=False)


def full(tensor: Tensor) -> Tensor:
    """Return a tensor in full; a sharded one is gathered, in which all processes take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which is all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in full, detached; those that were sharded on the CPU, and in the first process alone."""
    kept = {}
    for name, tensor in tensors.items():
        value = full(tensor.detach())
        if not isinstance(tensor, DTensor):
            kept[name] = value
        elif torch.distributed.get_rank() == 0:
            kept[name] = value.cpu()
    return kept


@torch.no_grad()
def assign(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values, sharded alike or full and the same in every process, into tensors that may be sharded."""
    for name, tensor in tensors.items():
        tensor.copy_(sharded_like(values[name], tensor))


def sharded_like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's part of a value, which each has in full, where a tensor of its shape is sharded."""
    if isinstance(value, DTensor) or not isinstance(tensor, DTensor) or value.shape != tensor.shape:
        return value
    return distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)
