"""Tiny policies, engines over them, and the distance between the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.rollout.vllm import ColocatedVLLM
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, random_tokens, teacher_forced, tiny_qwen

PROMPTS = random_tokens(5, 11, 8, 3)


def attached(model: PreTrainedModel, **settings: object) -> tuple[ColocatedVLLM, TinyPolicy]:
    policy = TinyPolicy(model)
    engine = ColocatedVLLM(kv_cache_gib=0.02, **settings)  # type: ignore[arg-type]
    engine.attach(policy)  # type: ignore[arg-type]
    return engine, policy


def with_lora(model: PreTrainedModel) -> PreTrainedModel:
    """LoRA on attention, MLP and the embedding, with adapters that already do something."""
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))


def distance(
    engine: RolloutEngine,
    model: PreTrainedModel,
    sampling: Sampling = Sampling(4, max_tokens=12),  # noqa: B008  (frozen)
    prompts: Sequence[Sequence[int]] = PROMPTS,
) -> float:
    """Largest difference between the engine's log-probabilities and those of a forward, one sequence at a time."""
    found = engine.generate(prompts, sampling, seeds=range(len(prompts)))
    return max(
        abs(ours - right)
        for prompt, group in zip(prompts, found, strict=True)
        for completion in group
        for ours, right in zip(
            completion.logprobs,
            teacher_forced(model, prompt, completion.token_ids, sampling.temperature, sampling.top_p),
            strict=True,
        )
    )


def tokens(results: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in results]


def train(model: PreTrainedModel, steps: int) -> None:
    """Steps that move every trained weight far."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    for step in range(steps):
        batch = torch.tensor(random_tokens(20, 20, seed=100 + step))
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


__all__ = ["PROMPTS", "attached", "distance", "tiny_qwen", "tokens", "train", "with_lora"]
