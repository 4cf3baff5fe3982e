"""An optimiser whose state waits in the host's memory."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.optim import Optimizer


@final
class HostedState:
    """Keeps an optimiser's state out of the accelerator's memory but while the optimiser takes a step.

    AdamW's state is twice as large as what is trained, and of no use while completions are sampled. It goes to the
    host's memory behind each step and comes back before the next, bit for bit; gradients are let go too. What lies on
    the host already, such as AdamW's number of steps, stays there, so on a CPU nothing moves.

    The optimiser calls this by its hooks. Where its state is asked for, for a checkpoint, sharded state comes back, for
    what gathers it works on the accelerator alone; whoever asked calls :meth:`release` afterwards. So does whoever
    loaded a checkpoint.

    Args:
        optimizer: Any whose state consists of tensors, sharded ones (``DTensor``) or not.
        host: Where it waits.
    """

    def __init__(self, optimizer: Optimizer, host: str = "cpu") -> None:
        self._optimizer = optimizer
        self._host = host
        self._homes: dict[tuple[Tensor, str], torch.device] = {}  # where that was which is on the host now
        optimizer.register_step_pre_hook(lambda *_: self.fetch())
        optimizer.register_step_post_hook(lambda *_: self._after_step())
        optimizer.register_state_dict_pre_hook(lambda *_: self.fetch(sharded_only=True))
        optimizer.register_load_state_dict_post_hook(lambda *_: self._homes.clear())  # that state was replaced

    @torch.no_grad()
    def fetch(self, sharded_only: bool = False) -> None:
        """Bring the state back to where it was.

        Args:
            sharded_only: Leave on the host what is not sharded.
        """
        for place, home in list(self._homes.items()):
            parameter, key = place
            state = self._optimizer.state[parameter]
            if hasattr(state[key], "full_tensor") or not sharded_only:
                state[key] = state[key].to(home)
                del self._homes[place]

    @torch.no_grad()
    def release(self) -> None:
        """Move the state to the host's memory; what is there stays."""
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
    """The part of a sharded tensor that this process has; its wrapper does not tell where that is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
