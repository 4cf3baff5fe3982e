"""Log-probabilities and gradients against one sequence at a time without padding, and against all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.functional import linear
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from omnithink_pl.model.logprobs import (
    SampledTokens,
    TokenLogprobs,
    chunk_of_logits,
    head_logprobs,
    logits_at_a_time,
    token_logprobs,
)
from omnithink_pl.model.micro_batches import split_micro_batches
from omnithink_pl.model.packing import Padding
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.tiny import TinyPolicy, random_tokens, shape, teacher_forced, tiny_llama, tiny_qwen

PROMPTS = random_tokens(5, 9, 2, seed=1)
COMPLETIONS = [random_tokens(4, 1, 7, seed=2), random_tokens(3, seed=3), random_tokens(6, 2, 6, 5, seed=4)]
FLAT = [(prompt, c) for prompt, siblings in zip(PROMPTS, COMPLETIONS, strict=True) for c in siblings]
# Packed rows have no padding.
LAYOUTS = pytest.mark.parametrize(("share_prompt", "padding"), [(True, "right"), (False, "right"), (False, "left")])
# A loss that weighs every token differently, as advantages do.
WEIGHTS = torch.randn(len(FLAT), 7, generator=torch.Generator().manual_seed(5)) / 30


def gradient(model: PreTrainedModel) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def reference_gradient(model: PreTrainedModel) -> torch.Tensor:
    """Each sequence in a forward of its own: no padding, no cache, no sharing."""
    for weights, (prompt, completion) in zip(WEIGHTS, FLAT, strict=True):
        logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
        every = logits[len(prompt) - 1 : -1].log_softmax(-1)
        chosen = every[torch.arange(len(completion)), torch.tensor(completion)]
        (weights[: len(completion)] * chosen).sum().backward()
    return gradient(model)


def assert_teacher_forced(
    found: TokenLogprobs, model: PreTrainedModel, temperature: float = 1.0, top_p: float = 1.0, tolerance: float = 2e-5
) -> None:
    """Hold log-probabilities to those of each sequence in a forward of its own."""
    for logprobs, mask, row in zip(found.logprobs.detach(), found.mask, FLAT, strict=True):
        assert logprobs[mask].tolist() == pytest.approx(teacher_forced(model, *row, temperature, top_p), abs=tolerance)


@LAYOUTS
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])
def test_logprobs_do_not_depend_on_the_layout(
    build: type, temperature: float, share_prompt: bool, padding: Padding
) -> None:
    model = build()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, temperature, share_prompt, padding)
    assert_teacher_forced(found, model, temperature)
    assert not found.logprobs[~found.mask].any(), "nothing stands behind a completion's end"
    assert found.logprobs.dtype == torch.float32


@LAYOUTS
def test_law_4_padding_changes_no_gradient(share_prompt: bool, padding: Padding) -> None:
    model = tiny_qwen()
    expected = reference_gradient(model)
    found = token_logprobs(model, PROMPTS, COMPLETIONS, share_prompt=share_prompt, padding=padding)
    (WEIGHTS * found.logprobs).sum().backward()
    assert expected.abs().max() > 0.1
    assert torch.allclose(gradient(model), expected, atol=1e-5)


@pytest.mark.parametrize("share_prompt", [True, False])
@pytest.mark.parametrize("token_budget", [1, 9, 14, 20, 31, 10_000])
def test_law_4_micro_batches_change_no_gradient(token_budget: int, share_prompt: bool) -> None:
    model = tiny_qwen()
    expected = reference_gradient(model)
    lengths = [(len(p), [len(c) for c in siblings]) for p, siblings in zip(PROMPTS, COMPLETIONS, strict=True)]
    first_row = [0, 3, 4]
    for parts in split_micro_batches(lengths, token_budget, share_prompt):
        found = token_logprobs(
            model,
            [PROMPTS[part.group] for part in parts],
            [[COMPLETIONS[part.group][index] for index in part.completions] for part in parts],
            share_prompt=share_prompt,
        )
        rows = [first_row[part.group] + index for part in parts for index in part.completions]
        (WEIGHTS[rows, : found.logprobs.shape[1]] * found.logprobs).sum().backward()
    assert torch.allclose(gradient(model), expected, atol=1e-5)


def test_entropy_is_that_of_the_distribution_sampled_from() -> None:
    model = tiny_qwen()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, temperature=0.7)
    for row, (prompt, completion) in zip(found.entropy, FLAT, strict=True):
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1].detach()
        expected = torch.distributions.Categorical(logits=logits / 0.7).entropy()
        assert torch.allclose(row[: len(completion)], expected, atol=1e-5)
        assert not row[len(completion) :].any()
    assert not found.entropy.requires_grad


@LAYOUTS
@pytest.mark.parametrize("top_p", [0.5, 0.9])
def test_top_p_renormalises_over_the_nucleus_and_the_token_that_was_drawn(
    top_p: float, share_prompt: bool, padding: Padding
) -> None:
    model = tiny_qwen()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, 0.8, share_prompt, padding, top_p=top_p)
    assert_teacher_forced(found, model, 0.8, top_p, tolerance=1e-4)
    whole = token_logprobs(model, PROMPTS, COMPLETIONS, 0.8, share_prompt, padding)
    assert (found.entropy < whole.entropy)[found.mask].all()
    found.logprobs.sum().backward()
    assert gradient(model).isfinite().all()


@pytest.mark.parametrize(("share_prompt", "attention"), [(True, "sdpa"), (False, "sdpa"), (False, "eager")])
def test_gradient_checkpointing_and_eager_attention_give_the_same(share_prompt: bool, attention: str) -> None:
    model = tiny_qwen(attn_implementation=attention).train()
    model.gradient_checkpointing_enable()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, share_prompt=share_prompt)
    assert_teacher_forced(found, tiny_qwen())
    (WEIGHTS * found.logprobs).sum().backward()
    assert torch.allclose(gradient(model), reference_gradient(tiny_qwen()), atol=1e-5)


def with_own_attention() -> PreTrainedModel:
    """Build a model one of whose layers attends in its own way."""
    model = tiny_qwen()
    own = model.model.layers[1].self_attn.forward
    model.model.layers[1].self_attn.forward = lambda *args, packed, **kwargs: own(*args, **kwargs)
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tiny_qwen(attn_implementation="eager"), r"Qwen2ForCausalLM cannot share prompts.*sdpa.*share_prompt"),
        (
            lambda: Gemma2ForCausalLM(
                Gemma2Config(**shape(head_dim=32, sliding_window=64), attn_implementation="sdpa")
            ),
            r"Gemma2Attention cannot share prompts: it has softcap.*share_prompt",
        ),
        (with_own_attention, "only 1 of its 2 layers"),
        (
            lambda: MistralForCausalLM(MistralConfig(**shape(sliding_window=8))),
            "12 tokens exceed its sliding window of 8",
        ),
    ],
    ids=["eager", "capped scores", "own attention", "short window"],
)
def test_a_model_that_cannot_share_prompts_is_refused_and_computed_without(build, message: str) -> None:
    model = build()
    with pytest.raises(ValueError, match=message):
        token_logprobs(model, PROMPTS, COMPLETIONS)
    if isinstance(model, MistralForCausalLM):
        assert_teacher_forced(token_logprobs(model, PROMPTS, COMPLETIONS, share_prompt=False), model)


def test_a_model_that_has_computed_packed_rows_is_otherwise_as_it_was(tmp_path: Path) -> None:
    used, fresh = tiny_qwen(), tiny_qwen()
    token_logprobs(used, PROMPTS, COMPLETIONS)
    drawn = []
    for model in (used, fresh):
        engine = TransformersEngine()
        engine.attach(TinyPolicy(model))
        drawn.append(engine.generate(PROMPTS, Sampling(3, max_tokens=8), seeds=range(len(PROMPTS))))
    assert drawn[0] == drawn[1]
    tokens, mask = torch.tensor([[5, 6, 7], [0, 8, 9]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    assert torch.equal(*(model(tokens, attention_mask=mask).logits for model in (used, fresh)))
    used.save_pretrained(tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(("prompts", "completions"), [([[]], [[[5]]]), ([[5]], [[[5], []]])])
def test_empty_sequences_are_refused(prompts: list[list[int]], completions: list[list[list[int]]]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        token_logprobs(tiny_qwen(), prompts, completions)


N, SIZE, VOCABULARY = 23, 16, 301


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
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("tokens", [5, 1000])
def test_chunks_give_the_plain_paths_numbers_and_gradients(
    tokens: int, temperature: float, frozen: bool, bias: bool, kind: type
) -> None:
    head, hidden, targets, weights = inputs(bias)
    head.requires_grad_(not frozen).__class__ = kind
    drawn = SampledTokens(targets, temperature, logits=tokens * VOCABULARY)
    leaves = [hidden, *(() if frozen else head.parameters())]
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


def test_chunks_of_logits_grow_with_a_gpu_and_are_smallest_on_a_cpu() -> None:
    assert logits_at_a_time(torch.device("cpu")) == chunk_of_logits(16 * 2**30) == 2**26
    assert 3 * 4 * chunk_of_logits(80 * 2**30) == pytest.approx(80 * 2**30 / 32)


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


@pytest.mark.parametrize("frozen", [True, False])
def test_under_autocast_all_but_products_is_float32(frozen: bool) -> None:
    head, hidden, targets, weights = inputs()
    head.requires_grad_(not frozen)
    with torch.autocast("cpu", torch.bfloat16):
        found = head_logprobs(head, head.forward, hidden, SampledTokens(targets, logits=4 * VOCABULARY))
        logits = head(hidden).float()
    every = logits.log_softmax(-1)
    plain = every.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found[:, 0], plain, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[:, 1], -(every.exp() * every).sum(-1), atol=1e-5, rtol=1e-5)
    leaves = [hidden] if frozen else [hidden, head.weight]
    ours = torch.autograd.grad((weights * found[:, 0]).sum(), leaves)
    theirs = torch.autograd.grad((weights * plain).sum(), leaves)
    assert {gradient.dtype for gradient in ours} == {torch.float32}
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
    assert_teacher_forced(found, model, 0.8)
    found.logprobs.sum().backward()
    assert model.get_output_embeddings().weight.grad.abs().max() > 0.01


def test_an_adapter_on_the_head_is_trained() -> None:
    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], lora_alpha=8)
    model = get_peft_model(tiny_qwen(tie_word_embeddings=False), config)
    found = token_logprobs(model, PROMPTS, COMPLETIONS)
    assert_teacher_forced(found, model)
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
