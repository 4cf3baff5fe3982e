"""Compiled layers, held to the same layers as they are."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch._dynamo.utils import counters
from torch._inductor import config as inductor
from torch._inductor.utils import fresh_cache
from transformers import PreTrainedModel

from omnithink_pl.errors import BadInput
from omnithink_pl.model import products
from omnithink_pl.model.compilation import compile_layers
from omnithink_pl.model.logprobs import SampledTokens, head_logprobs, token_logprobs
from omnithink_pl.model.policy import ready_to_train
from tests.tiny import tiny_qwen

CPU = torch.device("cpu")
COMPILERS_OWN = pytest.mark.filterwarnings(  # warnings of PyTorch's about PyTorch
    "ignore:.*torch.jit.script.* is deprecated:DeprecationWarning",
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor",
)
pytestmark = [pytest.mark.slow, COMPILERS_OWN]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Let no test profit from what another has compiled in this process."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def batch(seed: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Two prompts with three completions each, of lengths of its own."""
    tokens = random.Random(seed)
    prompts = [[tokens.randrange(3, 60) for _ in range(length)] for length in (9 + seed, 6 + 2 * seed)]
    completions = [[[tokens.randrange(3, 60) for _ in range(3 + seed + k)] for k in range(3)] for _ in prompts]
    return prompts, completions


def learnt(model: PreTrainedModel, seed: int, share_prompt: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of a batch, and the gradient of a weighted sum of them."""
    found = token_logprobs(model, *batch(seed), share_prompt=share_prompt)
    (found.logprobs * torch.linspace(-1, 1, found.logprobs.numel()).view_as(found.logprobs)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found.logprobs.detach(), gradient


def adapted(model: PreTrainedModel) -> PreTrainedModel:
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))


@pytest.mark.parametrize(
    ("lora", "checkpointing", "share_prompt", "onednn"),
    [
        (False, False, True, False),
        (False, False, True, True),
        (True, False, True, True),
        (False, True, True, False),
        (False, False, False, False),
    ],
)
def test_they_compute_the_same_and_not_anew_for_every_length(
    lora: bool, checkpointing: bool, share_prompt: bool, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: onednn)
    monkeypatch.setattr(products, "LEAST", 0)
    plain = tiny_qwen()
    compiled = copy.deepcopy(plain)
    if lora:
        torch.manual_seed(0)
        plain = adapted(plain)
        torch.manual_seed(0)
        compiled = adapted(compiled)
    products.use_faster_products(compiled)
    ready_to_train(compiled, checkpointing)
    compile_layers(compiled, CPU)
    graphs = []
    for seed in range(5):
        for ours, theirs in zip(*(learnt(model, seed, share_prompt) for model in (compiled, plain)), strict=True):
            assert (ours - theirs).norm() < 1e-4 * theirs.norm()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[-1] == graphs[1], "the second length at the latest makes lengths dynamic"


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_made_of_logits_is_the_same_compiled(dtype: torch.dtype, frozen: bool) -> None:
    torch.manual_seed(0)
    head, targets = torch.nn.Linear(16, 40).to(dtype), torch.randint(0, 39, (11,))
    with torch.no_grad():
        head.bias[39] = -torch.inf  # as a model does that has no such token
    head.requires_grad_(not frozen)
    hidden, weights = torch.randn(11, 16).to(dtype).requires_grad_(), torch.randn(11)
    leaves = [hidden, *(() if frozen else head.parameters())]
    results = []
    for compiled in (False, True):
        sampled = SampledTokens(targets, 0.7, logits=4 * 40, compiled=compiled)  # the last chunk is shorter
        found = head_logprobs(head, head.forward, hidden, sampled)
        results.append((found.detach(), torch.autograd.grad((weights * found[:, 0]).sum(), leaves)))
    assert counters["stats"]["unique_graphs"] > 0
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(*results, atol=tolerance, rtol=tolerance)
    assert results[1][0].isfinite().all()


def test_layers_that_are_alike_share_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    graphs = []
    for depth in (2, 12):
        model = tiny_qwen(num_hidden_layers=depth)
        products.use_faster_products(model)
        model = adapted(model)
        compile_layers(model, CPU)
        learnt(model, 0)
        graphs.append(counters["stats"]["unique_graphs"])
        torch.compiler.reset()
        counters.clear()
    assert graphs[0] == graphs[1] > 0


def test_passes_without_gradient_run_the_layers_as_they_are() -> None:
    plain = tiny_qwen()
    compiled = copy.deepcopy(plain)
    compile_layers(compiled, CPU)
    before = counters["stats"]["unique_graphs"]
    with torch.no_grad():
        ours, theirs = (token_logprobs(model, *batch(0)).logprobs for model in (compiled, plain))
    assert torch.equal(ours, theirs)
    assert counters["stats"]["unique_graphs"] == before


def test_a_machine_without_a_compiler_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    with (
        fresh_cache(),
        pytest.raises(BadInput, match=r"compile_layers: torch\.compile does not work here .*C\+\+ compiler"),
    ):
        compile_layers(tiny_qwen(), CPU)


def test_a_model_that_does_not_name_its_layers_is_refused() -> None:
    model = tiny_qwen()
    model._no_split_modules = None
    with pytest.raises(BadInput, match="does not say what its layers are"):
        compile_layers(model, CPU)
