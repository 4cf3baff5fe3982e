"""Engines over tiny policies. Starting one takes seconds, so tests of one architecture share it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.rollout.agreement import distance
from tests.tiny import TinyPolicy, random_tokens

AGREE = 1e-4  # nats
FAR = 0.1  # what stale weights or a stale cache differ by, at least


def attached(model: PreTrainedModel, **settings: object) -> tuple[ColocatedVLLM, TinyPolicy]:
    policy = TinyPolicy(model)
    engine = ColocatedVLLM(kv_cache_gib=0.02, **settings)  # type: ignore[arg-type]
    engine.attach(policy)  # type: ignore[arg-type]
    return engine, policy


def follow(engine: ColocatedVLLM, model: PreTrainedModel) -> TinyPolicy:
    """Let a running engine sample from another policy of the same architecture."""
    policy = TinyPolicy(model)
    engine._policy, engine._version = policy, None  # type: ignore[assignment]
    engine.sync()
    return policy


def with_lora(model: PreTrainedModel) -> PreTrainedModel:
    """LoRA on attention and MLP, with adapters that already do something."""
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))


def train(policy: TinyPolicy, steps: int = 10) -> None:
    """Move every trained weight far."""
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    for step in range(steps):
        batch = torch.tensor(random_tokens(20, 20, seed=100 + step))
        optimizer.zero_grad()
        policy.model(batch, labels=batch).loss.backward()
        optimizer.step()
        policy.weights_changed()


def perturb(policy: Policy | TinyPolicy, size: float = 0.02) -> None:
    """Add the same noise to every weight."""
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    policy.weights_changed()


def check_base_model_within(without: AbstractContextManager[object], engine: ColocatedVLLM, policy: TinyPolicy) -> None:
    """An engine that is synchronised where adapters are off is the base model, and again the policy afterwards."""
    with without:
        policy.weights_changed()
        engine.sync()
        assert distance(engine, policy.model) < AGREE
    assert distance(engine, policy.model) > FAR
    policy.weights_changed()
    engine.sync()
    assert distance(engine, policy.model) < AGREE
