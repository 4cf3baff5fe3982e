"""The server's side of a weight sync: a transport for vLLM's weight-transfer API that needs no GPU.

vLLM's own transports (NCCL, CUDA IPC) run between GPUs only. This one uses TCP, through the key-value store that vLLM
itself uses between processes, and so works between any two hosts, at the price of a copy through host memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo

from omnithink_pl.rollout.vllm.engine import load_every_weight


@dataclass
class StoreInit(WeightTransferInitInfo):  # type: ignore[misc]
    """Address of the trainer's store, and number of engine workers besides the trainer."""

    host: str
    port: int
    workers: int


@dataclass
class StoreUpdate(WeightTransferUpdateInfo):  # type: ignore[misc]
    """Number of tensors that follow."""

    count: int


class StoreTransfer(WeightTransferEngine[StoreInit, StoreUpdate]):  # type: ignore[misc]
    """Loads the policy's weights from the trainer's store: all of them, or it fails."""

    init_info_cls = StoreInit
    update_info_cls = StoreUpdate

    def init_transfer_engine(self, init_info: StoreInit) -> None:
        """Join the trainer's group."""
        rank = 1 + self.parallel_config.rank
        self.group = StatelessProcessGroup.create(init_info.host, init_info.port, rank, 1 + init_info.workers)

    def start_weight_update(self) -> None:
        """Do nothing: weights are loaded in place."""

    def finish_weight_update(self) -> None:
        """Do nothing: weights are loaded in place."""

    def update_weights(self, update_info: dict[str, int]) -> None:
        """Load one whole set of weights; vLLM's own method synchronises an accelerator as well."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: StoreUpdate) -> None:
        """Load the tensors one at a time, as they arrive."""
        with torch.no_grad():
            incoming = (self.group.broadcast_obj(None, src=0) for _ in range(update_info.count))  # 0 is the trainer
            load_every_weight(self.model, incoming)

    def shutdown(self) -> None:
        """Leave the group."""
        self.group = None
