"""The server's side of a weight sync: a transport for vLLM's weight-transfer API that needs no GPU.

vLLM's own transports (NCCL, CUDA IPC, RDMA) run between GPUs only. This one takes the weights from the requests
themselves, as parts of safetensors files, and so works wherever the server can be reached, at the price of a copy
through host memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo

from omnithink_pl.rollout.vllm.loading import begin_reload, check_every_weight, end_reload
from omnithink_pl.rollout.vllm.weight_parts import WeightAssembler, WeightPart


@dataclass
class NoInit(WeightTransferInitInfo):  # type: ignore[misc]
    """Nothing: there is no connection besides the requests."""


class PartsTransfer(WeightTransferEngine[NoInit, WeightPart]):  # type: ignore[misc]
    """Loads the policy's weights as they arrive: all of them, or it fails."""

    init_info_cls = NoInit
    update_info_cls = WeightPart
    reloading = False  # whether layers are without the form that they compute in

    def init_transfer_engine(self, init_info: NoInit) -> None:
        """Do nothing: no connection is needed."""

    def start_weight_update(self) -> None:
        """Begin with part 0."""
        self._end()  # of an update that was given up
        self.parts = WeightAssembler()
        self.loaded: set[str] = set()
        begin_reload(self.model)
        self.reloading = True

    def update_weights(self, update_info: dict[str, object]) -> None:
        """Load a part; vLLM's own method synchronises an accelerator even where there is none."""
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: WeightPart) -> None:
        """Load the weights that are complete with this part; after the last one, every weight must have its value."""
        weights = self.parts.add(update_info)
        with torch.no_grad():
            if weights:
                self.loaded |= self.model.load_weights(iter(weights.items()))
            if update_info.ends_weights:
                self._end()
                check_every_weight(self.model, self.loaded)

    def finish_weight_update(self) -> None:
        """Leave the model able to compute: with the last part it was already, unless the update is given up."""
        with torch.no_grad():
            self._end()

    def _end(self) -> None:
        if self.reloading:
            self.reloading = False
            end_reload(self.model, self.vllm_config)

    def shutdown(self) -> None:
        """Do nothing: there is no connection."""
