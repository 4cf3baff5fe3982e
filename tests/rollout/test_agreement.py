"""Law 12: at a run's start training, a plain forward pass and the sampler are one model, or the run is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import dropout
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model.packed_attention import PackedAttention
from omnithink_pl.model.policy import ready_to_train
from omnithink_pl.model.precision import gathered_in
from omnithink_pl.model.sharding import shard
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.agreement import LENGTHS, check_agreement, plain_logprobs, short_prompts
from omnithink_pl.types import Completion
from tests.distributed.ranks import in_processes
from tests.model.architectures import tiny
from tests.tiny import TinyPolicy, random_tokens, teacher_forced, tiny_llama, tiny_qwen

PROMPTS = random_tokens(5, 11)
SAMPLING = Sampling(4, 0.8, 0.9, 20)
Groups = list[tuple[Completion, ...]]


SMALL_MAMBA = {"mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1, "ssm_state_size": 16}


class ShiftedEngine(TransformersEngine):
    """Reports log-probabilities that are not those it sampled with."""

    def __init__(self, shift: float, low_precision: bool = False) -> None:
        super().__init__()
        self.shift, self.low_precision = shift, low_precision

    def generate(self, *args: Any, **kwargs: Any) -> Groups:
        groups = super().generate(*args, **kwargs)
        return [tuple(replace(c, logprobs=tuple(x - self.shift for x in c.logprobs)) for c in g) for g in groups]


class OtherWeightsEngine:
    """Samples from weights of its own, which it does not say are coarser; counts how often."""

    def __init__(self, shift: float) -> None:
        self.inner, self.calls = ShiftedEngine(shift), 0
        self.attach, self.sync = self.inner.attach, self.inner.sync

    def generate(self, *args: Any, **kwargs: Any) -> Groups:
        self.calls += 1
        return self.inner.generate(*args, **kwargs)


def check(
    model: PreTrainedModel,
    engine: TransformersEngine | OtherWeightsEngine | None = None,
    share_prompt: bool | None = True,
    compute: torch.dtype | None = None,
) -> None:
    policy, engine = TinyPolicy(ready_to_train(model), compute=compute), engine or TransformersEngine()
    engine.attach(policy)  # type: ignore[arg-type]
    check_agreement(policy, engine, PROMPTS, SAMPLING, share_prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
@pytest.mark.parametrize("share_prompt", [True, False, None])
@pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])
def test_law_12_one_model_passes_and_leaves_no_trace(
    build: Callable[..., PreTrainedModel], share_prompt: bool, compute: torch.dtype | None
) -> None:
    model = build()
    state = torch.get_rng_state()
    check(model, share_prompt=share_prompt, compute=compute)
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


def test_law_12_a_sampler_that_bfloat16_would_hide_is_refused() -> None:
    for share_prompt in (True, None):
        with pytest.raises(
            BadInput, match=r"the sampler ShiftedEngine and .*differ by .* nats .*, in float32, .*sample"
        ):
            check(tiny_qwen(), ShiftedEngine(0.01), share_prompt, compute=torch.bfloat16)


def test_law_12_a_forward_pass_of_training_that_bfloat16_would_hide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = PackedAttention.attend
    monkeypatch.setattr(PackedAttention, "attend", lambda self, q, k, v, scale: attend(self, q, k, v, 1.02 * scale))
    for engine in (TransformersEngine(), OtherWeightsEngine(0.0)):
        with pytest.raises(BadInput, match=r"packed forward pass .*, in float32, .*share_prompt to false"):
            check(tiny_qwen(), engine, compute=torch.bfloat16)
    check(tiny_qwen().to(torch.bfloat16))  # float32 is not to be had


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("nemotron_h", SMALL_MAMBA),
        ("recurrent_gemma", {"num_key_value_heads": 1, "block_types": ["recurrent", "attention"], "lru_width": 64}),
        ("inkling_text", {}),
        ("trocr", {}),
    ],
)
def test_law_12_an_architecture_is_refused_whatever_it_computes_in(kind: str, given: dict[str, Any]) -> None:
    model = tiny(kind, **given)
    for compute in (None, torch.bfloat16):
        with pytest.raises(BadInput, match=r"the sampler TransformersEngine and a plain forward .*, in float32"):
            check(model, share_prompt=False, compute=compute)


def test_law_12_an_engine_with_weights_of_its_own_samples_once_and_may_round() -> None:
    engine = OtherWeightsEngine(0.1)
    check(tiny_qwen(), engine, compute=torch.bfloat16)
    assert engine.calls == 1


def test_law_12_of_a_sharded_policy_float32_is_not_to_be_had() -> None:
    def process(rank: int) -> None:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
        model = ready_to_train(tiny_qwen())
        mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
        shard(model, mesh, gathered_in(torch.bfloat16))
        for engine in (TransformersEngine(), ShiftedEngine(0.1)):
            check(model, engine, compute=torch.bfloat16)
        with pytest.raises(BadInput, match="the sampler ShiftedEngine"):
            check(model, ShiftedEngine(0.5), compute=torch.bfloat16)
        dist.barrier()
        dist.destroy_process_group()

    assert in_processes(2, process) == [0, 0]


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_after_the_check_the_policy_computes_as_before(shift: float) -> None:
    policy, engine = TinyPolicy(ready_to_train(tiny_qwen()), compute=torch.bfloat16), ShiftedEngine(shift)
    engine.attach(policy)  # type: ignore[arg-type]
    precision = torch.get_float32_matmul_precision()
    with suppress(BadInput):
        check_agreement(policy, engine, PROMPTS, SAMPLING, True)  # type: ignore[arg-type]
    assert policy.compute == torch.bfloat16
    assert torch.get_float32_matmul_precision() == precision
    assert not torch.is_autocast_enabled("cpu")


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
