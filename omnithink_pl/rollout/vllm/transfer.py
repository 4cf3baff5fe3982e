"""The server's side of a weight sync: a transport for vLLM's weight-transfer API that needs no GPU.

vLLM's own transports (NCCL, CUDA IPC, RDMA) run between GPUs only. This one takes the weights from the requests
themselves, as parts of safetensors files, and so works wherever the server can be reached. The price is host memory:
until they are complete they wait there, once for each GPU of the server. Then the model changes from the old ones to
the new ones at once, whatever becomes of a trainer meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo

from omnithink_pl.rollout.vllm.loading import load_every_weight
from omnithink_pl.rollout.vllm.weight_parts import WeightAssembler, WeightPart


@dataclass
class NoInit(WeightTransferInitInfo):  # type: ignore[misc]
    """Nothing: there is no connection besides the requests."""


class PartsTransfer(WeightTransferEngine[NoInit, WeightPart]):  # type: ignore[misc]
    """Loads the policy's weights as they arrive: all of them, or it fails."""

    init_info_cls = NoInit
    update_info_cls = WeightPart

    def init_transfer_engine(self, init_info: NoInit) -> None:
        """Do nothing: no connection is needed."""

    def start_weight_update(self) -> None:
        """Begin with part 0."""
        self.parts = WeightAssembler()
        self.weights: dict[str, torch.Tensor] = {}

    def update_weights(self, update_info: dict[str, object]) -> None:
        """Take a part; vLLM's own method synchronises an accelerator even where there is none."""
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: WeightPart) -> None:
        """Keep the weights that are complete with this part; with the last one, load them all."""
        self.weights |= self.parts.add(update_info)
        if update_info.ends_weights:
            weights, self.weights = self.weights, {}
            with torch.no_grad():
                load_every_weight(self.model, self.vllm_config, weights.items())

    def finish_weight_update(self) -> None:
        """Forget an update that was given up; with the last part everything was loaded and checked."""
        self.weights = {}

    def shutdown(self) -> None:
        """Do nothing: there is no connection."""
