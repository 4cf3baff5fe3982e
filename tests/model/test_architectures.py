"""Each architecture is computed as transformers computes it, or is refused with the cure; docs/models.md has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from omnithink_pl.errors import BadInput
from omnithink_pl.model.export import check_export
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import Policy, load_policy, ready_to_train, save_policy
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.agreement import check_agreement
from tests.model.architectures import HYBRID, SMALL_VISION, saved, tiny
from tests.tiny import random_tokens, teacher_forced

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
PROMPTS = random_tokens(11, 23, 5, seed=1)
COMPLETIONS = [random_tokens(4, 1, seed=2), random_tokens(3, seed=3), random_tokens(6, 2, 9, seed=4)]
SHORT = [[50, 60, 70, 80], [40, 50, 60, 70, 80, 90, 41, 51]]

PACKED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen2_moe": {},  # a window of 0 means none
    "qwen3": {},
    "gemma3": {"vision_config": SMALL_VISION},  # a composite config
    "smollm3": {},
    "olmo2": {},
    "mixtral": {},
    "phi3": {},
    "phimoe": {},  # a router that is random in training
    "seed_oss": {},  # dropout of its own
    "gpt2": {},
    "opt": {},
    "cohere": {},  # scales its logits
    "granite": {},
    "deepseek_v3": {"num_key_value_heads": 4, "head_dim": 8},
    "persimmon": {},
}
PADDED: dict[str, dict[str, Any]] = {
    "gemma2": {},  # caps its attention scores
    "gpt_oss": {},
    "falcon": {},  # a forward without keyword arguments
    "bloom": {},
    "mamba": {},
    "qwen3_next": HYBRID,
    "llama4_text": {"attention_chunk_size": 8},
    "doge": {"num_key_value_heads": 4},  # adds to the mask
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({}, "looks ahead.*use a decoder"),
    "xlnet": ({"d_head": 16, "d_inner": 96}, "looks ahead.*use a decoder"),
    "rwkv": ({"attention_hidden_size": 64}, "the sampler TransformersEngine and a plain forward.*vLLM"),
}


def ready(name: str) -> tuple[Policy, TransformersEngine]:
    policy, engine = load_policy(name), TransformersEngine()
    ready_to_train(policy.model)
    engine.attach(policy)
    return policy, engine


def assert_right(name: str, directory: Path, share_prompt: bool) -> None:
    """Training and sampling agree with transformers' own model; it takes a step, is saved, and is loaded again."""
    policy, engine = ready(name)
    check_agreement(policy, engine, SHORT, Sampling(group_size=2), share_prompt)
    check_export(policy.model, policy.tokenizer)
    own = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager").eval()
    pairs = [(prompt, c) for prompt, group in zip(PROMPTS, COMPLETIONS, strict=True) for c in group]
    found = token_logprobs(policy.model, PROMPTS, COMPLETIONS, share_prompt=share_prompt)
    for row, (prompt, completion) in zip(found.logprobs.tolist(), pairs, strict=True):
        assert row[: len(completion)] == pytest.approx(teacher_forced(own, prompt, completion), abs=1e-4)
    for prompt, group in zip(PROMPTS, engine.generate(PROMPTS, Sampling(2, max_tokens=12), [5, 6, 7]), strict=True):
        for completion in group:
            expected = teacher_forced(own, prompt, completion.token_ids)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)
    before = found.logprobs.sum().item()
    (-found.logprobs.sum()).backward()
    square = sum(float(p.grad.square().sum()) for p in policy.model.parameters() if p.grad is not None)
    torch.optim.SGD(policy.model.parameters(), lr=0.01 / square).step()  # to first order 0.01 nats
    save_policy(policy, directory)
    again, after = load_policy(str(directory)), 0.0
    for prompt, completion in pairs:
        trained = teacher_forced(policy.model.eval(), prompt, completion)
        assert teacher_forced(again.model.eval(), prompt, completion) == pytest.approx(trained, abs=1e-6)
        after += sum(trained)
    assert after - before == pytest.approx(0.01, rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKED)
def test_a_model_of_plain_attention_is_packed(kind: str, tmp_path: Path) -> None:
    assert_right(saved(tiny(kind, **PACKED[kind]), tmp_path / "policy"), tmp_path / "out", share_prompt=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PADDED)
def test_another_model_is_refused_with_the_cure_and_padded(kind: str, tmp_path: Path) -> None:
    name = saved(tiny(kind, **PADDED[kind]), tmp_path / "policy")
    with pytest.raises(BadInput, match=r"cannot share prompts: .*; set model\.memory\.share_prompt to false"):
        check_agreement(*ready(name), SHORT, Sampling(group_size=2), share_prompt=True)
    assert_right(name, tmp_path / "out", share_prompt=False)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_trained_is_refused_with_the_cure(kind: str, tmp_path: Path) -> None:
    settings, message = REFUSED[kind]
    name = saved(tiny(kind, **settings), tmp_path)
    with pytest.raises(BadInput, match=message):
        check_agreement(*ready(name), SHORT, Sampling(group_size=2), share_prompt=False)


def test_the_page_has_what_is_tested() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for kinds, column in ((PACKED, "yes"), (PADDED, "no")):
        listed = [row for row in rows if row.split("|")[2].strip() == column]
        assert [kind for kind in kinds if not any(f"`{kind}`" in row for row in listed)] == []
    refused = [row for row in rows if "refused" in row]
    assert [kind for kind in REFUSED if not any(f"`{kind}`" in row for row in refused)] == []
