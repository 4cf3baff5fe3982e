"""Looks over the processes of a run while it trains."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning as L
import torch.distributed as dist


class SameParameters(L.Callback):
    """Ends the run unless all processes hold the same parameters, bit for bit, and got different prompts."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: list[Any], batch_idx: int
    ) -> None:
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        mine = (digest.hexdigest(), [example.uid for example in batch])
        every: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(every, mine)
        assert trainer.world_size == dist.get_world_size() == 2
        assert len({digest for digest, _ in every}) == 1, "processes have different parameters"
        assert not set(every[0][1]) & set(every[1][1]), "processes got the same prompts"


class DieAt(L.Callback):
    """Makes the engine of one process fail in its n-th call of ``generate``, counted from 1."""

    def __init__(self, call: int, rank: int = 0) -> None:
        self.call, self.rank = call, rank

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.global_rank != self.rank:
            return
        engine, calls = pl_module.engine, iter(range(1, 10**9))
        generate = engine.generate

        def die() -> None:
            raise RuntimeError("a kernel died")

        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == self.call:
                engine._llm.llm_engine.step = die
            return generate(*args, **kwargs)

        engine.generate = counted
