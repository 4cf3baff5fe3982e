"""Run by torchrun as two processes that share one engine, each with prompts of its own."""

from __future__ import annotations

import torch.distributed as dist

from omnithink_pl.rollout.base import Sampling
from tests.rollout.agreement import PROMPTS, distance, tokens
from tests.tiny import tiny_qwen
from tests.vllm.engines import attached, perturb


def main() -> None:
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
    main()
