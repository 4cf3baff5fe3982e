"""Run in a process of its own, because an engine keeps to the first process group that it meets."""

from __future__ import annotations

import sys

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.rollout.agreement import distance
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached


def main(store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    before = dist.group.WORLD
    engine, policy = attached(tiny_qwen())
    assert dist.group.WORLD is before, "the engine replaced the default group"
    assert distance(engine, policy.model) < 1e-4
    del engine
    assert dist.group.WORLD is before, "the engine's end destroyed the default group"

    model, right = tiny_qwen(tie_word_embeddings=False), tiny_qwen(tie_word_embeddings=False)
    mesh = init_device_mesh("cpu", (1,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(type(parameter.data).__name__ == "DTensor" for parameter in model.parameters())
    assert distance(attached(model)[0], right) < 1e-4


if __name__ == "__main__":
    main(sys.argv[1])
