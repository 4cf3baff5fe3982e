"""Log-probabilities in chunks: the plain path's numbers and gradients, without its logits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.functional import linear
from transformers import CohereConfig, CohereForCausalLM, PreTrainedModel

from omnithink_pl.model.logprobs import SampledTokens, head_logprobs, token_logprobs
from tests.tiny import random_tokens, shape, teacher_forced, tiny_qwen

N, SIZE, VOCABULARY = 23, 16, 301
PROMPTS = random_tokens(5, 9, seed=1)
COMPLETIONS = [random_tokens(4, 1, seed=2), random_tokens(6, 3, seed=3)]
FLAT = [(prompt, c) for prompt, siblings in zip(PROMPTS, COMPLETIONS, strict=True) for c in siblings]


def inputs(bias: bool = False) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head, hidden states, targets, and what each token's log-probability weighs."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(SIZE, VOCABULARY, bias=bias)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=generator)
    hidden = torch.randn(N, SIZE, generator=generator).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (N,), generator=generator)
    return head, hidden, targets, torch.randn(N, generator=generator)


def naive(head: torch.nn.Linear, hidden: torch.Tensor, drawn: SampledTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits at once, through autograd, in float64."""
    weight, bias = head.weight.double(), None if head.bias is None else head.bias.double()
    distribution = torch.distributions.Categorical(logits=linear(hidden.double(), weight, bias) / drawn.temperature)
    return distribution.log_prob(drawn.targets), distribution.entropy().detach()


class OwnHead(torch.nn.Linear):
    """A head that is not quite PyTorch's, such as an adapter puts in its place."""


@pytest.mark.parametrize("kind", [torch.nn.Linear, OwnHead])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("tokens", [1, 5, 23, 1000])
def test_chunks_give_the_plain_paths_numbers_and_gradients(
    tokens: int, temperature: float, bias: bool, kind: type
) -> None:
    head, hidden, targets, weights = inputs(bias)
    head.__class__ = kind
    drawn = SampledTokens(targets, temperature, logits=tokens * VOCABULARY)
    leaves = [hidden, *head.parameters()]
    logprobs, entropy = naive(head, hidden, drawn)
    expected = torch.autograd.grad((weights * logprobs).sum(), leaves)
    found = head_logprobs(head, head.forward, hidden, drawn)
    torch.testing.assert_close(found[:, 0], logprobs.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1].detach(), entropy.float(), atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad((weights * found[:, 0]).sum(), leaves)
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("top_p", [0.3, 0.9])
def test_the_nucleus_does_not_depend_on_the_chunk(top_p: float) -> None:
    head, hidden, targets, weights = inputs()
    results = []
    for tokens in (3, 1000):
        found = head_logprobs(head, head.forward, hidden, SampledTokens(targets, 0.8, top_p, tokens * VOCABULARY))
        results.append((found, *torch.autograd.grad((weights * found[:, 0]).sum(), [hidden, head.weight])))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)
    assert all(part.isfinite().all() for part in results[0])


def test_only_a_chunk_of_logits_is_ever_alive() -> None:
    head, hidden, targets, weights = inputs()
    drawn = SampledTokens(targets, logits=4 * VOCABULARY)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            rows_of_logits = isinstance(result, torch.Tensor) and result.shape[-1:] == (VOCABULARY,)
            if rows_of_logits and result.data_ptr() != head.weight.data_ptr():
                largest = max(largest, result.numel() // VOCABULARY)
            return result

    with Watch():
        (weights * head_logprobs(head, head.forward, hidden, drawn)[:, 0]).sum().backward()
    assert largest == 4


def test_weights_in_bfloat16_have_log_probabilities_in_float32() -> None:
    head, hidden, targets, weights = inputs()
    rounded = hidden.detach().bfloat16().requires_grad_()
    head.bfloat16()
    drawn = SampledTokens(targets, logits=4 * VOCABULARY)
    logits = linear(rounded, head.weight).float()
    found = head_logprobs(head, head.forward, rounded, drawn)
    assert found.dtype == torch.float32
    expected = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found[:, 0], expected, atol=1e-6, rtol=1e-6)
    (weights * found[:, 0]).sum().backward()
    assert rounded.grad.dtype == head.weight.grad.dtype == torch.bfloat16


def test_under_autocast_master_weights_have_gradients_in_float32() -> None:
    head, hidden, targets, weights = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = head_logprobs(head, head.forward, hidden, SampledTokens(targets, logits=4 * VOCABULARY))
        plain = torch.log_softmax(head(hidden).float(), -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found[:, 0], plain, atol=1e-6, rtol=1e-6)
    (ours,) = torch.autograd.grad((weights * found[:, 0]).sum(), head.weight)
    (theirs,) = torch.autograd.grad((weights * plain).sum(), head.weight)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def capped(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with a cap on its logits that its config does not mention."""
    own = model.forward

    def forward(*args: object, **kwargs: object) -> object:
        output = own(*args, **kwargs)
        output.logits = 5.0 * torch.tanh(output.logits / 5.0)
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: CohereForCausalLM(CohereConfig(**shape(logit_scale=0.25))),
        lambda: capped(tiny_qwen()),
        lambda: tiny_qwen(tie_word_embeddings=False),
    ],
    ids=["scaled, and said so", "capped, unsaid", "untied"],
)
def test_what_a_model_does_to_its_logits_is_done(build) -> None:
    model = build()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, temperature=0.8)
    for logprobs, mask, row in zip(found.logprobs, found.mask, FLAT, strict=True):
        assert logprobs[mask].tolist() == pytest.approx(teacher_forced(model, *row, temperature=0.8), abs=2e-5)
    found.logprobs.sum().backward()
    assert model.get_output_embeddings().weight.grad.abs().max() > 0.01


def test_an_adapter_on_the_head_is_trained() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        tiny_qwen(tie_word_embeddings=False), LoraConfig(r=4, target_modules=["q_proj", "lm_head"], lora_alpha=8)
    )
    found = token_logprobs(model, PROMPTS, COMPLETIONS)
    for logprobs, mask, row in zip(found.logprobs, found.mask, FLAT, strict=True):
        assert logprobs[mask].tolist() == pytest.approx(teacher_forced(model, *row), abs=2e-5)
    found.logprobs.sum().backward()
    trained = {name.split(".")[-3] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"lora_B"}
    heads = [p.grad for name, p in model.named_parameters() if "lm_head.lora_B" in name]
    assert heads[0].any()


@pytest.fixture
def one_process() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_head_divided_among_processes_is_put_together(one_process: DeviceMesh) -> None:
    head, hidden, targets, weights = inputs()
    drawn = SampledTokens(targets, logits=4 * VOCABULARY)
    (expected,) = torch.autograd.grad(
        (weights * head_logprobs(head, head.forward, hidden, drawn)[:, 0]).sum(), head.weight
    )
    head.weight = torch.nn.Parameter(distribute_tensor(head.weight.detach(), one_process, [Shard(0)]))
    (weights * head_logprobs(head, head.forward, hidden, drawn)[:, 0]).sum().backward()
    assert isinstance(head.weight.grad, DTensor)
    torch.testing.assert_close(head.weight.grad.full_tensor(), expected)
