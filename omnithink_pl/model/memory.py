"""Memory against speed: its settings, and optimiser state that is offloaded to host memory between steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from omnithink_pl.errors import BadInput


@dataclass(frozen=True)
class MemorySettings:
    """Memory against speed; results do not depend on these settings.

    Args:
        micro_batch_tokens: Tokens of prompts and completions that one forward pass may hold.
        share_prompt: Compute each prompt once for its group; false for models that cannot, which say so. Supervised
            fine-tuning has no groups and does not read it.
        gradient_checkpointing: Keep only the input of each layer: less memory, about a third more computing.
        kept_layers: With gradient checkpointing, layers that keep all of their activations all the same, and are not
            computed again; ``budget`` says for how many there is room.
        compile_layers: Fuse the elementwise work of each layer by ``torch.compile``: less time and memory, after up to
            a minute at the start. It needs a C++ compiler, and on a GPU Triton.
        offload_reference: Keep a second model in host memory except while its log-probabilities are computed.
        offload_optimizer: Keep the optimiser's state in host memory between its steps.
        reduce_once: Of a sharded model, sum gradients over processes once an update instead of once a micro-batch: less
            traffic, which counts between machines, for four bytes a trained parameter on every GPU. The others sum
            once anyway.

    Raises:
        BadInput: If a value is out of range.
    """

    micro_batch_tokens: int = 8192
    share_prompt: bool = True
    gradient_checkpointing: bool = False
    kept_layers: int = 0
    compile_layers: bool = False
    offload_reference: bool = False
    offload_optimizer: bool = False
    reduce_once: bool = False

    def __post_init__(self) -> None:
        if self.micro_batch_tokens < 1:
            raise BadInput(f"model.memory.micro_batch_tokens is {self.micro_batch_tokens}; use 1 or more")
        if self.kept_layers < 0:
            raise BadInput(f"model.memory.kept_layers is {self.kept_layers}; use 0 or more")
        if self.kept_layers and not self.gradient_checkpointing:
            raise BadInput(
                "model.memory.kept_layers are exceptions from model.memory.gradient_checkpointing, which is false; set "
                "it to true, or leave kept_layers out"
            )


@final
class HostedState:
    """Keeps an optimiser's state on the accelerator only while the optimiser takes a step.

    AdamW's state is twice as large as what is trained, and of no use while completions are sampled. It moves to host
    memory after each step and back before the next, bit for bit; gradients are freed too. Tensors that are on the host
    anyway, such as AdamW's number of steps, stay there, so on a CPU nothing moves.

    From a GPU, PyTorch copies without blocking into pinned memory, and keeps that for the next time: the bus at its
    full rate, for host memory that is rounded up to powers of two, tensor by tensor.

    Hooks of the optimiser call it; a checkpoint is written from where the state is. After loading one, call
    :meth:`release`.

    Args:
        optimizer: Any whose state consists of tensors, sharded ones (``DTensor``) or not.
        host: Device that it is offloaded to.
    """

    def __init__(self, optimizer: Optimizer, host: str = "cpu") -> None:
        self._optimizer = optimizer
        self._host = host
        self._homes: dict[tuple[Tensor, str], torch.device] = {}  # devices of tensors that are on the host now
        optimizer.register_step_pre_hook(lambda *_: self.fetch())
        optimizer.register_step_post_hook(lambda *_: self._after_step())
        optimizer.register_load_state_dict_post_hook(lambda *_: self._homes.clear())  # the state was replaced

    @torch.no_grad()
    def fetch(self) -> None:
        """Move the state back to its device."""
        for (parameter, key), home in self._homes.items():
            state = self._optimizer.state[parameter]
            state[key] = state[key].to(home, non_blocking=True)
        self._homes.clear()

    @torch.no_grad()
    def release(self) -> None:
        """Move the state to host memory."""
        devices = set()
        for parameter, state in self._optimizer.state.items():
            for key, value in state.items():
                # The wrapper of a sharded tensor does not tell on which device this process's part is.
                part = value.to_local() if isinstance(value, DTensor) else value
                if isinstance(part, Tensor) and part.device.type != self._host:
                    devices.add(part.device.type)
                    self._homes[parameter, key] = part.device
                    state[key] = value.to(self._host, non_blocking=True)
        if "cuda" in devices:
            torch.cuda.synchronize()  # a checkpoint reads what was copied
            torch.cuda.empty_cache()  # an engine that wakes up takes its memory from the driver, not from PyTorch

    def _after_step(self) -> None:
        self.release()
        self._optimizer.zero_grad()
