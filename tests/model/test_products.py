"""Products by oneDNN and with prepared weights, held to float64 and to the plain forward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from omnithink_pl.model import products
from omnithink_pl.model.products import add_product, linear, prepared_weights, use_faster_products
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.tiny import TinyPolicy, random_tokens, tiny_qwen

NEEDS_AVX512 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_f") or not torch.backends.mkldnn.is_available(),
    reason="the processor has no AVX-512, so that PyTorch's own products are used",
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Use oneDNN for every size, on any processor; return the shape of the weight of each call."""
    seen: list[tuple[int, ...]] = []
    original = products._onednn

    def record(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append(tuple(weight.shape))
        return original(inputs, weight, bias)

    monkeypatch.setattr(products, "_onednn", record)
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(products, "LEAST_PREPARED", 0)
    return seen


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@NEEDS_AVX512
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(33, 48), (2, 5, 48), (1, 7, 48)])
def test_output_and_all_gradients_equal_those_of_float64(
    shape: tuple[int, ...], bias: bool, calls: list[tuple[int, ...]]
) -> None:
    parts = [drawn(*shape), drawn(20, 48, seed=1), *([drawn(20, seed=2)] if bias else [])]
    factor = drawn(*shape[:-1], 20, seed=3)
    ours, exact = (
        [part.clone().to(dtype).requires_grad_() for part in parts] for dtype in (torch.float32, torch.float64)
    )
    (linear(*ours) * factor).sum().backward()
    (nn.functional.linear(*exact) * factor).sum().backward()
    assert len(calls) == 3
    assert torch.allclose(linear(*ours).double(), nn.functional.linear(*exact), atol=1e-4)
    for found, expected in zip(ours, exact, strict=True):
        assert torch.allclose(found.grad.double(), expected.grad, atol=1e-4)


@NEEDS_AVX512
def test_a_transposed_view_is_multiplied_as_it_is(calls: list[tuple[int, ...]]) -> None:
    left, right = drawn(48, 33).T, drawn(48, 20, seed=1).T
    assert torch.allclose(linear(left, right).double(), left.double() @ right.double().T, atol=1e-4)
    assert calls == [(20, 48)]


@NEEDS_AVX512
def test_a_frozen_weight_keeps_no_inputs_for_the_backward_pass(calls: list[tuple[int, ...]]) -> None:
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        linear(drawn(8, 48).requires_grad_(), drawn(20, 48, seed=1))
    assert kept == [(20, 48)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_added_in_parts(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PART", 100)
    total, left, right = drawn(20, 48), drawn(20, 33, seed=1), drawn(33, 48, seed=2)
    expected = total + left @ right
    add_product(total, left.to(dtype), right.to(dtype))
    assert torch.allclose(total, expected, atol=1e-4 if dtype is torch.float32 else 0.2)


def gradients(model: nn.Module, tokens: Tensor) -> Tensor:
    model(tokens).logits.log_softmax(-1)[..., 7].sum().backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


@NEEDS_AVX512
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_and_its_copy_are_trained_as_before(checkpointing: bool, calls: list[tuple[int, ...]]) -> None:
    model, tokens = tiny_qwen(), torch.tensor(random_tokens(12))
    expected, names = gradients(model, tokens), list(model.state_dict())
    use_faster_products(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    twin = copy.deepcopy(model.train())
    assert torch.allclose(gradients(model, tokens), expected, atol=1e-4)
    assert len(calls) == 15 * (4 if checkpointing else 3) - checkpointing  # the head is not computed again
    assert list(model.state_dict()) == names
    with torch.no_grad():
        twin.lm_head.weight.zero_()
        assert not twin(tokens).logits.any(), "a copy multiplies by its own weights"
        assert model(tokens).logits.any()


@NEEDS_AVX512
@pytest.mark.parametrize("packs", [True, False])
def test_prepared_weights_sample_what_the_others_do(
    packs: bool, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TinyPolicy(tiny_qwen())
    engine = TransformersEngine()
    engine.attach(policy)  # type: ignore[arg-type]
    prompts, sampling, seeds = random_tokens(5, 9), Sampling(3, max_tokens=12), [1, 2]
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    plain = engine.generate(prompts, sampling, seeds)
    assert not calls
    monkeypatch.setattr(products, "onednn_is_faster", lambda: packs)
    found = engine.generate(prompts, sampling, seeds)
    assert bool(calls) == packs
    for ours, theirs in zip(sum(found, ()), sum(plain, ()), strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert not [module for module in policy.model.modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("packs", [True, False])
def test_weights_that_are_cast_once_equal_those_that_autocast_casts(
    packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packs and not torch.cpu.get_capabilities().get("avx512_f"):
        pytest.skip("the processor has no AVX-512")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: packs)
    monkeypatch.setattr(products, "LEAST_PREPARED", 0)
    model, tokens = tiny_qwen(), torch.tensor(random_tokens(12))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        expected = model(tokens).logits
        with prepared_weights(model):
            found = model(tokens).logits
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected.float(), atol=0.05, rtol=0.02)
