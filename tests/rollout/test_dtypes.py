"""Engine and trainer compute in one dtype, or the run says why that matters."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from omnithink_pl.errors import BadInput
from omnithink_pl.model.precision import compute_dtype, computing
from omnithink_pl.rollout.agreement import check_dtypes
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from tests.tiny import TinyPolicy, random_tokens, tiny_qwen

PROMPTS = random_tokens(5, 9)


@pytest.mark.parametrize(("engine", "precision"), [("bfloat16", "32-true"), ("float32", "bf16-mixed")])
def test_another_dtype_is_warned_of_and_refused_where_nothing_corrects_it(
    engine: str, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy = TinyPolicy(tiny_qwen(), compute=compute_dtype(precision))
    other = SimpleNamespace(dtype=engine)
    with caplog.at_level(logging.WARNING):
        check_dtypes(policy, other, corrected=True)  # type: ignore[arg-type]
    assert f"dtype is {engine} and training computes in" in caplog.text
    with pytest.raises(BadInput, match=r"or model\.rollouts\.correction\.level to token"):
        check_dtypes(policy, other, corrected=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "precision"), [("bfloat16", "bf16-mixed"), ("float32", "32-true"), (None, "32-true")]
)
def test_one_dtype_is_silent(engine: str | None, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = TinyPolicy(tiny_qwen(), compute=compute_dtype(precision))
    other = SimpleNamespace(dtype=engine) if engine else TransformersEngine()
    check_dtypes(policy, other, corrected=False)  # type: ignore[arg-type]
    assert not caplog.text


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_a_policy_samples_alike_inside_a_training_step_and_outside(compute: torch.dtype | None) -> None:
    engine, policy = TransformersEngine(), TinyPolicy(tiny_qwen(), compute=compute)
    engine.attach(policy)  # type: ignore[arg-type]
    found = []
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append(engine.generate(PROMPTS, Sampling(2, max_tokens=8), [1, 2]))
    assert found[0] == found[1]


def test_autocast_outside_does_not_reach_in() -> None:
    model = tiny_qwen()
    with torch.autocast("cpu", torch.bfloat16):
        with computing(model, None):
            assert model(torch.tensor(PROMPTS[:1])).logits.dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")


def test_a_loss_scale_is_refused() -> None:
    with pytest.raises(BadInput, match="16-mixed scales the loss"):
        compute_dtype("16-mixed")
