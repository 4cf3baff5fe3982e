"""A completion that vLLM cut goes on behind its prefix, by the weights that it has then."""

from __future__ import annotations

import pytest
import torch

from omnithink_pl.rollout.base import Sampling
from tests.tiny import teacher_forced, tiny_qwen
from tests.vllm.policies import PROMPTS, attached, tokens

SEEDS = range(4)
WHOLE = Sampling(4, max_tokens=20)


def test_what_was_drawn_stays_and_the_rest_is_the_present_policys() -> None:
    engine, policy = attached(tiny_qwen())
    segment = WHOLE.in_segments(7)
    begun = engine.generate(PROMPTS[:3], segment, SEEDS[:3])
    assert {len(row) for group in tokens(begun) for row in group} >= {7}
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    engine.sync()
    handed = {}
    found = engine.generate(PROMPTS, segment, SEEDS, lambda place, group: handed.update({place: group}), [*begun, ()])
    assert [handed[place] for place in range(4)] == found
    for prompt, before, after in zip(PROMPTS, begun, found, strict=False):
        for head, both in zip(before, after, strict=True):
            drawn = len(head.token_ids)
            assert (both.token_ids[:drawn], both.logprobs[:drawn]) == (head.token_ids, head.logprobs)
            assert len(both.token_ids) <= 14
            assert segment.is_open(head) or both == head
            expected = teacher_forced(policy.model, prompt, both.token_ids)
            assert both.logprobs[drawn:] == pytest.approx(expected[drawn:], abs=1e-4)
    ended = engine.generate(PROMPTS, segment, SEEDS, begun=found)
    assert engine.generate(PROMPTS, segment, SEEDS, begun=found) == ended, "a seed repeats it"
    assert max(len(row) for group in tokens(ended) for row in group) == 20
    assert all(len(set(group)) == 4 for group in tokens(ended)), "each goes on with noise of its own"
