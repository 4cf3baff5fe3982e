"""Top-p below 1: sampler and trainer mean the same distribution, the one that was sampled from."""

from __future__ import annotations

import pytest
import torch

from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import TinyPolicy, tiny_qwen
from tests.vllm.policies import PROMPTS


@pytest.mark.parametrize("engine", [ColocatedVLLM(kv_cache_gib=0.02), TransformersEngine()], ids=["vLLM", "own"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (1.5, 0.7), (0.7, 0.95)])
def test_every_ratio_is_one_on_fresh_rollouts(engine: RolloutEngine, temperature: float, top_p: float) -> None:
    policy = TinyPolicy(tiny_qwen())
    engine.attach(policy)  # type: ignore[arg-type]
    groups = engine.generate(PROMPTS, Sampling(8, temperature, top_p, 16), seeds=range(4))
    drawn = [[completion.token_ids for completion in group] for group in groups]
    trained = token_logprobs(policy.model, PROMPTS, drawn, temperature, top_p=top_p)
    sampled = torch.tensor([value for group in groups for c in group for value in c.logprobs])
    difference = (trained.logprobs[trained.mask] - sampled).abs()
    # Where the nucleus ends at a token whose probability reaches top_p to the last digit, rounding decides.
    at_the_edge = difference >= 1e-4
    assert at_the_edge.float().mean() < 0.01
    assert difference[at_the_edge].sum() < 0.05
    whole = token_logprobs(policy.model, PROMPTS, drawn, temperature)
    assert (whole.logprobs - trained.logprobs)[trained.mask].min() < -0.05, "or the nucleus would not matter here"
