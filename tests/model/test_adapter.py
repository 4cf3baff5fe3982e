"""Adapters: what is trained, what a checkpoint holds, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from omnithink_pl.errors import BadInput
from omnithink_pl.grpo.kl_control import KLSettings
from omnithink_pl.grpo.reference import AdaptedReference, FrozenCopy, reference_policy
from omnithink_pl.model.adapter import LoRA, build_policy, check_adapter, save_adapters
from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import ADAPTER, Policy, load_policy, save_policy
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.model.architectures import saved, tiny
from tests.tiny import TinyPolicy, random_tokens, teacher_forced, tiny_qwen

SMALL = LoRA(rank=2, alpha=8)
# Two hybrid layers that share one block of attention and MLP.
ZAMBA2 = {
    "num_hidden_layers": 4,
    "layer_types": ["mamba", "hybrid", "hybrid", "mamba"],
    "hybrid_layer_ids": [1, 2],
    "num_mem_blocks": 1,
    "num_key_value_heads": 4,
    "attention_head_dim": 32,
    "attention_hidden_size": 128,
    "mamba_headdim": 16,
    "mamba_d_state": 16,
    "n_mamba_heads": 8,
    "mamba_ngroups": 1,
    "adapter_rank": 4,
}
PROMPTS, COMPLETIONS = random_tokens(5, 3), [random_tokens(4, 7, seed=1), random_tokens(6, seed=2)]


def adapted(seed: int = 0, adapter: LoRA = SMALL) -> Policy:
    return build_policy("embedded", adapter, seed)


def moved(model: torch.nn.Module, by: float = 0.05) -> None:
    """What training does to whatever is trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += by * torch.sin(torch.arange(parameter.numel())).view_as(parameter)


def logprobs(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return token_logprobs(model, PROMPTS, COMPLETIONS).logprobs


def test_only_adapters_are_trained_and_at_first_they_change_nothing() -> None:
    policy, base = adapted(), build_policy("embedded", None, 0)
    assert torch.equal(logprobs(policy.model), logprobs(base.model))
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert sum(p.numel() for p in policy.model.parameters() if p.requires_grad) < 0.1 * base.model.num_parameters()
    assert policy.context == base.context
    small = adapted(adapter=LoRA(rank=2, weights="bfloat16")).model
    assert {p.requires_grad: p.dtype for p in small.parameters()} == {True: torch.float32, False: torch.bfloat16}


def test_first_values_are_those_of_the_seed_whatever_was_drawn_before() -> None:
    first = adapted(seed=3).model.state_dict()
    torch.rand(5)
    state = torch.get_rng_state()
    again, other = adapted(seed=3).model.state_dict(), adapted(seed=4).model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_reference_of_an_adapted_policy_is_the_base_without_a_second_model() -> None:
    model = adapted().model
    before = logprobs(model)
    base, stage = AdaptedReference(model, "base"), AdaptedReference(model, "stage")
    moved(model)
    now = logprobs(model)
    assert not torch.allclose(now, before, atol=1e-2)
    for reference in (base, stage):  # before its first stage the policy is the base
        with reference.active() as active:
            assert torch.equal(logprobs(active), before)
        reference.begin_stage(model)
    moved(model, by=-0.2)
    with base.active() as active:
        assert torch.equal(logprobs(active), before)
    with stage.active() as active:
        assert torch.equal(logprobs(active), now)
    assert not torch.allclose(logprobs(model), now, atol=1e-2)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())
    restored = AdaptedReference(adapted(seed=9).model, "stage")
    restored.load_state_dict(stage.state_dict())
    with restored.active() as active:
        assert torch.equal(logprobs(active), now)
    assert base.state_dict() == {}


def test_no_reference_is_held_where_no_task_has_a_penalty() -> None:
    full, small = tiny_qwen(), adapted().model
    assert reference_policy(full, KLSettings({"math": 0.0, "qa": 0.0})) is None
    assert isinstance(reference_policy(full, KLSettings({"math": 0.0, "qa": 0.1})), FrozenCopy)
    assert isinstance(reference_policy(small, KLSettings({"qa": 0.1})), AdaptedReference)


def test_a_checkpoint_holds_adapters_only_and_other_adapters_refuse_it() -> None:
    module = torch.nn.Module()
    module.model = adapted().model
    checkpoint = {"state_dict": module.state_dict()}
    save_adapters(checkpoint, module)
    assert checkpoint["state_dict"].keys() == {name for name, p in module.named_parameters() if p.requires_grad}
    check_adapter(checkpoint, module)
    module.model = adapted(adapter=LoRA(rank=4)).model
    with pytest.raises(BadInput, match=r"another model\.adapter: .*lora_A.* is \(2, 384\) there and \(4, 384\) here"):
        check_adapter(checkpoint, module)


def test_law_6_the_engine_samples_from_the_adapted_policy() -> None:
    policy = TinyPolicy(get_peft_model(tiny_qwen(), LoRA(rank=2).peft_config()))
    engine = TransformersEngine()
    engine.attach(policy)
    for _ in range(2):
        engine.sync()
        found = engine.generate(PROMPTS, Sampling(group_size=3, max_tokens=8), [1, 2])
        for prompt, group in zip(PROMPTS, found, strict=True):
            for completion in group:
                right = teacher_forced(policy.model, prompt, completion.token_ids)
                assert completion.logprobs == pytest.approx(right, abs=1e-4)
        moved(policy.model)


def test_a_saved_policy_is_the_trained_one_merged_and_as_an_adapter(tmp_path: Path) -> None:
    policy = adapted()
    moved(policy.model)
    save_policy(policy, tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logprobs(merged), logprobs(policy.model), atol=1e-5)
    base = build_policy("embedded", None, 0).model
    assert torch.allclose(logprobs(PeftModel.from_pretrained(base, tmp_path / ADAPTER)), logprobs(policy.model))
    again = build_policy(str(tmp_path), None, 0)
    assert again.encode([{"role": "user", "content": "2 + 2"}]) == policy.encode([{"role": "user", "content": "2 + 2"}])


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # of PEFT, before it is refused
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    ("kind", "given", "targets", "cure"),
    [
        ("qwen2", {"tie_word_embeddings": True}, ["lm_head"], "name other layers"),
        ("qwen2", {"tie_word_embeddings": True}, ["embed_tokens", "q_proj"], r"set it to \[q_proj\]"),
        ("zamba2", ZAMBA2, "all-linear", r"set it to \[in_proj, linear, out_proj\]"),
    ],
)
def test_an_adapter_of_a_weight_that_two_modules_share_is_refused(
    kind: str, given: dict[str, Any], targets: Any, cure: str, weights: bool, tmp_path: Path
) -> None:
    name = saved(tiny(kind, **given), tmp_path)
    with pytest.raises(BadInput, match=rf"target_modules: the weight of \S+ is that of \S+ too.*{cure}"):
        build_policy(name, LoRA(rank=2, target_modules=targets), seed=0, weights=weights)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")  # of PEFT
@pytest.mark.parametrize(
    ("kind", "given", "targets"),
    [
        ("qwen2", {"tie_word_embeddings": True}, "all-linear"),
        ("qwen2", {"tie_word_embeddings": False}, ["lm_head", "embed_tokens"]),
        ("zamba2", ZAMBA2, ["in_proj", "linear", "out_proj"]),
    ],
)
def test_an_adapter_beside_shared_weights_is_saved_as_it_was_trained(
    kind: str, given: dict[str, Any], targets: Any, tmp_path: Path
) -> None:
    policy = build_policy(saved(tiny(kind, **given), tmp_path / "in"), LoRA(rank=2, target_modules=targets), seed=0)
    before, _ = alone(policy.model), moved(policy.model)
    save_policy(policy, tmp_path / "out")
    trained = alone(policy.model)
    assert alone(load_policy(str(tmp_path / "out")).model) == pytest.approx(trained, abs=1e-3)
    assert trained != pytest.approx(before, abs=0.1)


def alone(model: torch.nn.Module) -> list[float]:
    return teacher_forced(model.eval(), PROMPTS[0], COMPLETIONS[0][0])


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (LoRA(rank=0), r"model\.adapter\.rank is 0"),
        (LoRA(target_modules=[]), r"model\.adapter\.target_modules is empty"),
        (LoRA(target_modules=["query"]), r"target_modules: .* name layers that 'embedded' has"),
        (LoRA(weights="nf4"), r"weights is nf4, which needs bitsandbytes"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(adapter: LoRA, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnithink_pl.model.policy.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=message):
        build_policy("embedded", adapter, seed=0)


@pytest.mark.parametrize(
    ("dtype", "adapter", "message"),
    [
        (torch.float16, None, "16-true has no loss scaling"),
        (torch.bfloat16, LoRA(), "bf16-true would store adapters in bfloat16"),
    ],
)
def test_precisions_with_too_few_digits_are_refused(
    dtype: torch.dtype, adapter: LoRA | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_default_dtype", lambda: dtype)
    with pytest.raises(BadInput, match=rf"trainer\.precision: {message}.*; use bf16-mixed"):
        build_policy("embedded", adapter, seed=0)
