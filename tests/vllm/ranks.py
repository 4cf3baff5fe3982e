"""Programs of one rank and of two, in processes of their own: an engine keeps to its first process group."""

from __future__ import annotations

import sys

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from omnithink_pl.rollout.base import Sampling
from tests.rollout.agreement import PROMPTS, distance, tokens
from tests.tiny import tiny_experts, tiny_qwen
from tests.vllm.engines import AGREE, FAR, attached, perturb, train


def alone(store: str) -> None:
    """A process group of one rank, before the engine and with sharded weights."""
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


def experts() -> None:
    """A mixture of experts, whose process groups vLLM makes with the first engine of a process only."""
    engine, policy = attached(tiny_experts())
    for _ in range(2):
        assert distance(engine, policy.model) < AGREE
        train(policy)
        assert distance(engine, policy.model) > FAR, "training must move the policy far for this test to say anything"
        engine.sync()
    assert distance(engine, policy.model) < AGREE


def shared() -> None:
    """Run by torchrun as two processes that share one engine, each with prompts of its own."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.group.WORLD
    engine, policy = attached(tiny_qwen(num_key_value_heads=2), tensor_parallel_size=2)
    assert dist.group.WORLD is world, "the engine replaced the default group"
    heads = engine._llm.apply_model(lambda model: model.model.layers[0].self_attn.num_heads)
    assert heads == [1], "each of the two holds one of the two heads"
    mine = PROMPTS[rank::2]
    for _ in range(2):
        assert distance(engine, policy.model, prompts=mine) < 1e-4
        perturb(policy)
        engine.sync()
    seeds, sampling = list(range(len(PROMPTS))), Sampling(4, max_tokens=8)
    both: list[list[list[tuple[int, ...]]]] = [[], []]
    dist.all_gather_object(both, tokens(engine.generate(PROMPTS, sampling, seeds)))
    assert both[0] == both[1], "equal requests, equal completions"
    assert both[0][rank::2] == tokens(engine.generate(mine, sampling, seeds[rank::2])), "whichever rank requests"
    print("all checks passed")


if __name__ == "__main__":
    {"alone": alone, "experts": experts, "shared": shared}[sys.argv[1]](*sys.argv[2:])
