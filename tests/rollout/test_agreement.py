"""Law 12: at a run's start training, a plain forward pass and the sampler are one model, or the run is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import dropout
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.packed_attention import PackedAttention
from omnithink_pl.model.policy import ready_to_train
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.agreement import LENGTHS, check_agreement, plain_logprobs, short_prompts
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, random_tokens, teacher_forced, tiny_llama, tiny_qwen

PROMPTS = random_tokens(5, 11)
SAMPLING = Sampling(4, 0.8, 0.9, 20)
Groups = list[tuple[Completion, ...]]


class ShiftedEngine(TransformersEngine):
    """Reports log-probabilities that are not those it sampled with."""

    def __init__(self, shift: float, low_precision: bool = False) -> None:
        super().__init__()
        self.shift, self.low_precision = shift, low_precision

    def generate(self, *args: Any, **kwargs: Any) -> Groups:
        groups = super().generate(*args, **kwargs)
        return [tuple(replace(c, logprobs=tuple(x - self.shift for x in c.logprobs)) for c in g) for g in groups]


def check(model: PreTrainedModel, engine: TransformersEngine | None = None, share_prompt: bool | None = True) -> None:
    policy, engine = TinyPolicy(ready_to_train(model)), engine or TransformersEngine()
    engine.attach(policy)  # type: ignore[arg-type]
    check_agreement(policy, engine, PROMPTS, SAMPLING, share_prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("share_prompt", [True, False, None])
@pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])
def test_law_12_one_model_passes_and_leaves_no_trace(build: Callable[..., PreTrainedModel], share_prompt: bool) -> None:
    model = build()
    state = torch.get_rng_state()
    check(model, share_prompt=share_prompt)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_law_12_weights_of_16_bits_pass() -> None:
    check(tiny_qwen(initializer_range=0.05).to(torch.bfloat16))


def test_the_plain_forward_pass_is_that_of_one_sequence() -> None:
    model = tiny_qwen().eval()
    with torch.no_grad():
        found = plain_logprobs(model, PROMPTS[0], PROMPTS[1], 0.7)
    assert found.tolist() == pytest.approx(teacher_forced(model, PROMPTS[0], PROMPTS[1], 0.7), abs=1e-5)


def test_law_12_wrongly_packed_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = PackedAttention.attend
    monkeypatch.setattr(PackedAttention, "attend", lambda self, q, k, v, scale: attend(self, q, k, v, 0.3))
    with pytest.raises(BadInput, match=r"packed forward pass .* differ .*; set model\.memory\.share_prompt to false"):
        check(tiny_qwen())
    check(tiny_qwen(), share_prompt=False)


@pytest.mark.parametrize(("shift", "low_precision"), [(0.01, False), (float("nan"), False), (0.5, True)])
def test_law_12_a_sampler_of_another_model_is_refused(shift: float, low_precision: bool) -> None:
    for share_prompt in (True, None):
        with pytest.raises(BadInput, match=r"the sampler ShiftedEngine and a plain forward .*differ .*; sample"):
            check(tiny_qwen(), ShiftedEngine(shift, low_precision), share_prompt)


def test_law_12_a_coarse_sampler_passes() -> None:
    check(tiny_qwen(), ShiftedEngine(0.1, low_precision=True))


def test_law_12_randomness_that_stays_on_is_refused() -> None:
    model = tiny_qwen()
    norm = model.model.norm
    norm.register_forward_hook(lambda module, inputs, output: dropout(output, 0.3, training=module.training))
    with pytest.raises(BadInput, match=r"two forward passes of training differ .*randomness.*dropout"):
        check(model)


def test_law_12_a_model_that_looks_ahead_is_refused() -> None:
    model = tiny_qwen(attn_implementation="eager")
    model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"attention_mask": None}), with_kwargs=True
    )
    with pytest.raises(BadInput, match=r"Qwen2ForCausalLM looks ahead.*use a decoder"):
        check(model, share_prompt=False)


def test_law_12_a_gradient_that_is_not_finite_is_refused() -> None:
    model = tiny_qwen()
    model.model.norm.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * float("nan"),))
    with pytest.raises(BadInput, match="the gradient of the packed forward pass of training is not finite"):
        check(model)


def test_law_12_a_model_that_fails_is_named_with_the_cure() -> None:
    model = tiny_qwen()
    own = model.forward

    def without_positions(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("past_key_values") is not None:
            raise IndexError("no such layer")
        return own(*args, **kwargs)

    model.forward = without_positions  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"sampling by TransformersEngine fails \(IndexError: no such .*; sample"):
        check(model)


def test_two_short_prompts_of_different_lengths_are_chosen() -> None:
    prompts = random_tokens(40, 7, 7, 30, 50)
    short = short_prompts(prompts)
    assert short == [prompts[1], prompts[3][-LENGTHS[1] :]]
    assert short_prompts([[1, 2]]) == [[1, 2]]
