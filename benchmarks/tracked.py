"""Memory of a training step on each GPU, tracked over the real code with tensors that have no storage.

PyTorch's ``FSDPMemTracker`` watches every allocation of one process of many: packed forward pass, fused head, backward
pass, reference and optimiser are ours, only the tensors are fake and the other processes are. Seven billion parameters
on eight GPUs take half a minute on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from benchmarks.memory import LiveBytes
from omnithink_pl.model import logprobs
from omnithink_pl.model.adapter import LoRA
from omnithink_pl.model.attention_tiles import TiledAttention
from omnithink_pl.model.budget import Settings
from omnithink_pl.model.policy import ready_to_train
from omnithink_pl.model.precision import computing, gathered_in
from omnithink_pl.model.sharding import divide, sharded_modules

Groups = tuple[list[list[int]], list[list[list[int]]]]  # prompts, and the completions of each


def tracked(config: PretrainedConfig, settings: Settings, adapter: LoRA | None = None) -> int:
    """Return the most bytes that training holds on one GPU, over reference, forward, backward and optimiser.

    Args:
        config: Of a decoder.
        settings: Of the run. Engine and cache are vLLM's, and not tracked.
        adapter: As ``model.adapter``.
    """
    compute = torch.bfloat16 if settings.compute == "bfloat16" else None
    with ExitStack() as stack:
        mesh = stack.enter_context(_fake_group(settings.gpus)) if settings.sharded else None
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_real_indices())
        stack.enter_context(patch.object(logprobs, "logits_at_a_time", return_value=settings.logits or logprobs.LOGITS))
        model = ready_to_train(_model(config, settings, adapter), settings.checkpointing, settings.kept_layers)
        second = _model(config, settings, None).requires_grad_(False) if settings.second_model else None
        for one in (model, second):
            if one is not None and mesh is not None:
                divide(one, mesh, gathered_in(compute))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=True)  # as on a GPU
        _take_step(trained, optimizer)  # its state is there from the second step on
        second_parameters = tuple(second.parameters()) if second is not None else ()
        if mesh is None:
            live = LiveBytes()
            state = [value for each in optimizer.state.values() for value in each.values()]
            live.count(*model.parameters(), *second_parameters, *state)
            with live:
                _step(model, second, settings, trained, optimizer)
            return live.peak
        tracker = FSDPMemTracker(model, optimizer)
        tracker.track_inputs(second_parameters)
        with tracker:
            _step(model, second, settings, trained, optimizer, tracker.reset_mod_stats)
        (snapshot,) = tracker.get_tracker_snapshot("peak").values()
        return snapshot["Total"]


def _step(
    model: PreTrainedModel,
    second: PreTrainedModel | None,
    settings: Settings,
    trained: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Pass a micro-batch through the reference, then forward and backward, and update."""
    compute = torch.bfloat16 if settings.compute == "bfloat16" else None
    if settings.reference:
        with torch.no_grad(), computing(second or model, compute):
            _logprobs(second or model, settings)
        for module in sharded_modules(second or model):
            module.reshard()
        between()
    for parameter in trained:  # of the micro-batches before
        parameter.grad = torch.zeros_like(parameter)
    with computing(model, compute):
        _logprobs(model, settings).sum().backward()
    optimizer.step()


def _model(config: PretrainedConfig, settings: Settings, adapter: LoRA | None) -> PreTrainedModel:
    """Return the model of a run, with fake tensors in place of its parameters and buffers."""
    with unset_fake_temporarily(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, settings.weights))
        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, adapter.peft_config(), low_cpu_mem_usage=True)
    made: dict[int, torch.nn.Parameter] = {}  # tied ones once
    for module in model.modules():
        for name, own in module._parameters.items():
            if own is not None:
                empty = torch.empty(own.shape, dtype=own.dtype)
                made.setdefault(id(own), torch.nn.Parameter(empty, own.requires_grad))
                module._parameters[name] = made[id(own)]
        for name, own in module._buffers.items():
            module._buffers[name] = None if own is None else torch.empty(own.shape, dtype=own.dtype)
    return model


def _take_step(trained: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _logprobs(model: PreTrainedModel, settings: Settings) -> torch.Tensor:
    prompts, completions = groups(settings)
    return logprobs.token_logprobs(model, prompts, completions, share_prompt=True).logprobs


def groups(settings: Settings) -> Groups:
    """Return prompts and completions of a full micro-batch: one long group, or several short ones."""
    completion = settings.tokens - settings.prompt_tokens
    prompts: list[list[int]] = []
    completions: list[list[list[int]]] = []
    left = settings.micro_batch_tokens
    while left > settings.prompt_tokens:
        left -= settings.prompt_tokens
        lengths = [min(completion, left - n * completion) for n in range(settings.group_size) if left > n * completion]
        prompts.append([1] * settings.prompt_tokens)
        completions.append([[1] * length for length in lengths])
        left -= sum(lengths)
    return prompts, completions


@contextmanager
def _fake_group(processes: int) -> Iterator[DeviceMesh]:
    """Let this process be the first of a group whose other ones do not exist."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield init_device_mesh("cpu", (processes,))
    finally:
        dist.destroy_process_group()


@contextmanager
def _real_indices() -> Iterator[None]:
    """Compute with real tensors where values decide about shapes: which token lies where in a packed row."""

    def real(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with unset_fake_temporarily():
                return function(*args)

        return call

    with (
        patch.object(logprobs, "pack_rows", real(logprobs.pack_rows)),
        patch.object(TiledAttention, "of", real(TiledAttention.of)),
        patch.object(torch, "equal", return_value=True),  # the head's own logits came out unchanged
    ):
        yield
