"""The SFT loss is the plain mean over completion tokens, and training lowers it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from transformers import Qwen2Config, Qwen2ForCausalLM

from omnithink_pl.modules.sft import Pair, SupervisedFineTuning, completion_loss

PAIRS: list[Pair] = [([3, 5, 7], [11, 2, 9]), ([4], [6, 6, 6, 6, 1]), ([8, 9, 10, 11, 12], [1])]


@pytest.fixture
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    return Qwen2ForCausalLM(config).eval()


def plain_loss(model: Qwen2ForCausalLM, pairs: list[Pair]) -> float:
    """One row at a time, one token at a time, in float64."""
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, completion in pairs:
            seen = list(prompt)
            for token in completion:
                logits = model(torch.tensor([seen])).logits[0, -1].double()
                total -= math.log(math.exp(logits[token]) / sum(math.exp(value) for value in logits))
                seen.append(token)
                count += 1
    return total / count


def test_the_loss_equals_plain_loops(model: Qwen2ForCausalLM) -> None:
    assert completion_loss(model, PAIRS).item() == pytest.approx(plain_loss(model, PAIRS), abs=1e-5)


def test_prompt_tokens_are_not_trained_on(model: Qwen2ForCausalLM) -> None:
    alone = completion_loss(model, [([3, 5, 7], [11, 2])]).item()
    first = completion_loss(model, [([3, 5, 7], [11])]).item()
    second = completion_loss(model, [([3, 5, 7, 11], [2])]).item()
    assert alone == pytest.approx((first + second) / 2, abs=1e-5)


def test_gradients_of_parts_add_up_to_the_gradient_of_the_batch(model: Qwen2ForCausalLM) -> None:
    completion_loss(model, PAIRS).backward()
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    tokens = sum(len(completion) for _, completion in PAIRS)
    for pair in PAIRS:
        (completion_loss(model, [pair]) * len(pair[1]) / tokens).backward()
    parts = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_row_that_cannot_be_trained_on_is_refused(model: Qwen2ForCausalLM) -> None:
    with pytest.raises(ValueError, match="drop the empty rows"):
        completion_loss(model, [([], [1])])
    with pytest.raises(ValueError, match="drop the empty rows"):
        completion_loss(model, [([1], [])])


def test_a_trainer_lowers_the_loss_on_the_packaged_policy(tmp_path: Path) -> None:
    module = SupervisedFineTuning("embedded", optimizer=partial(torch.optim.AdamW, lr=1e-3))
    ids = module.policy.tokenizer.encode("xyz qrs tuv")
    pairs: list[Pair] = [(ids, [*ids, module.policy.eos_id])]
    before = completion_loss(module.model, pairs).item()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=8,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader([pairs] * 8, batch_size=None))
    assert completion_loss(module.model, pairs).item() < before - 0.5
