"""Optimiser state that is offloaded to host memory between steps."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.optim import Optimizer


@final
class HostedState:
    """Keeps an optimiser's state on the accelerator only while the optimiser takes a step.

    AdamW's state is twice as large as what is trained, and of no use while completions are sampled. It moves to host
    memory after each step and back before the next, bit for bit; gradients are freed too. Tensors that are on the host
    anyway, such as AdamW's number of steps, stay there, so on a CPU nothing moves.

    Hooks of the optimiser call it. When its state is read for a checkpoint, sharded state comes back, because gathering
    works on the accelerator only. After saving or loading a checkpoint, call :meth:`release`.

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
        optimizer.register_state_dict_pre_hook(lambda *_: self.fetch(sharded_only=True))
        optimizer.register_load_state_dict_post_hook(lambda *_: self._homes.clear())  # the state was replaced

    @torch.no_grad()
    def fetch(self, sharded_only: bool = False) -> None:
        """Move the state back to its device; with ``sharded_only``, sharded tensors alone."""
        for place, home in list(self._homes.items()):
            parameter, key = place
            state = self._optimizer.state[parameter]
            if hasattr(state[key], "full_tensor") or not sharded_only:
                state[key] = state[key].to(home)
                del self._homes[place]

    @torch.no_grad()
    def release(self) -> None:
        """Move the state to host memory."""
        devices = set()
        for parameter, state in self._optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor) and (home := _local(value).device).type != self._host:
                    devices.add(home.type)
                    self._homes[parameter, key] = home
                    state[key] = value.to(self._host)
        if "cuda" in devices:
            torch.cuda.empty_cache()  # an engine that wakes up takes its memory from the driver, not from PyTorch

    def _after_step(self) -> None:
        self.release()
        self._optimizer.zero_grad()


def _local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor; its wrapper does not tell on which device that is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
