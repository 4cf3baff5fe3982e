"""Sampler and trainer agree on the policy that ships with the package."""

from __future__ import annotations

import torch

from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import EMBEDDED, load_policy
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine

QUESTIONS = ["What is 3 + 4?", "Tell a story about a fox, with the words river, moon and stone."]


def test_greedy_equals_generate_and_logprobs_equal_the_trainers() -> None:
    policy = load_policy(EMBEDDED)
    engine = TransformersEngine()
    engine.attach(policy)
    prompts = [policy.encode([{"role": "user", "content": question}]) for question in QUESTIONS]
    for prompt, group in zip(prompts, engine.generate(prompts, Sampling(1, 0.0), seeds=[0, 1]), strict=True):
        output = policy.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=64)
        assert group[0].token_ids == tuple(output[0, len(prompt) :].tolist())
        assert group[0].text == policy.decode(group[0].token_ids)
    sampled = engine.generate(prompts, Sampling(8, 1.0, max_tokens=40), seeds=[0, 1])
    completions = [[completion.token_ids for completion in group] for group in sampled]
    trained = token_logprobs(policy.model, prompts, completions)
    given = torch.tensor([value for group in sampled for completion in group for value in completion.logprobs])
    assert torch.allclose(trained.logprobs[trained.mask], given, atol=1e-4)
