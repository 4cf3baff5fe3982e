"""Per-token log-probabilities and their gradients, held to one sequence at a time without padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from omnithink_pl.model.logprobs import TokenLogprobs, token_logprobs
from omnithink_pl.model.micro_batches import split
from omnithink_pl.model.packing import Padding
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.tiny import TinyPolicy, random_tokens, shape, teacher_forced, tiny_llama, tiny_qwen

PROMPTS = random_tokens(5, 9, 2, seed=1)
COMPLETIONS = [random_tokens(4, 1, 7, seed=2), random_tokens(3, seed=3), random_tokens(6, 2, 6, 5, seed=4)]
FLAT = [(prompt, c) for prompt, siblings in zip(PROMPTS, COMPLETIONS, strict=True) for c in siblings]
LAYOUTS = pytest.mark.parametrize(
    ("share_prompt", "padding"), [(True, "right"), (True, "left"), (False, "right"), (False, "left")]
)
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


def values(found: TokenLogprobs) -> list[list[float]]:
    return [row[keep].tolist() for row, keep in zip(found.logprobs.detach(), found.mask, strict=True)]


@LAYOUTS
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])
def test_logprobs_do_not_depend_on_the_layout(
    build: type, temperature: float, share_prompt: bool, padding: Padding
) -> None:
    model = build()
    found = values(token_logprobs(model, PROMPTS, COMPLETIONS, temperature, share_prompt, padding))
    expected = [teacher_forced(model, prompt, completion, temperature) for prompt, completion in FLAT]
    assert [len(row) for row in found] == [len(row) for row in expected]
    for row, right in zip(found, expected, strict=True):
        assert row == pytest.approx(right, abs=2e-5)


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
    for parts in split(lengths, token_budget, share_prompt):
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
    for row, found_row in zip(FLAT, values(found), strict=True):
        assert found_row == pytest.approx(teacher_forced(model, *row, temperature=0.8, top_p=top_p), abs=1e-4)
    whole = token_logprobs(model, PROMPTS, COMPLETIONS, 0.8, share_prompt, padding)
    assert (found.entropy < whole.entropy)[found.mask].all()


def test_top_p_lets_gradients_through_that_are_finite() -> None:
    model = tiny_qwen()
    token_logprobs(model, PROMPTS, COMPLETIONS, top_p=0.5).logprobs.sum().backward()
    assert gradient(model).isfinite().all()


def test_nothing_stands_behind_a_completions_end() -> None:
    found = token_logprobs(tiny_qwen(), PROMPTS, COMPLETIONS)
    assert found.mask.sum(-1).tolist() == [len(completion) for _, completion in FLAT]
    assert not found.logprobs[~found.mask].any()
    assert found.logprobs.dtype == torch.float32


@pytest.mark.parametrize(("share_prompt", "attention"), [(True, "sdpa"), (False, "sdpa"), (False, "eager")])
def test_gradient_checkpointing_and_eager_attention_give_the_same(share_prompt: bool, attention: str) -> None:
    expected = values(token_logprobs(tiny_qwen(), PROMPTS, COMPLETIONS))
    model = tiny_qwen(attn_implementation=attention).train()
    model.gradient_checkpointing_enable()
    found = token_logprobs(model, PROMPTS, COMPLETIONS, share_prompt=share_prompt)
    for row, right in zip(values(found), expected, strict=True):
        assert row == pytest.approx(right, abs=2e-5)
    (WEIGHTS * found.logprobs).sum().backward()
    assert torch.allclose(gradient(model), reference_gradient(tiny_qwen()), atol=1e-5)


def test_a_model_that_cannot_share_prompts_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM cannot share prompts.*sdpa.*share_prompt"):
        token_logprobs(tiny_qwen(attn_implementation="eager"), PROMPTS, COMPLETIONS)


def test_a_model_whose_attention_caps_its_scores_is_refused() -> None:
    model = Gemma2ForCausalLM(Gemma2Config(**shape(head_dim=32, sliding_window=64), attn_implementation="sdpa"))
    with pytest.raises(ValueError, match=r"Gemma2Attention cannot share prompts: it has softcap.*share_prompt"):
        token_logprobs(model, PROMPTS, COMPLETIONS)


def test_a_model_that_attends_in_its_own_way_is_refused() -> None:
    model = tiny_qwen()
    own = model.model.layers[1].self_attn.forward
    model.model.layers[1].self_attn.forward = lambda *args, packed, **kwargs: own(*args, **kwargs)
    with pytest.raises(ValueError, match="only 1 of its 2 layers"):
        token_logprobs(model, PROMPTS, COMPLETIONS)


def test_a_sliding_window_is_respected_or_refused() -> None:
    model = MistralForCausalLM(MistralConfig(**shape(sliding_window=8)))
    with pytest.raises(ValueError, match="12 tokens exceed its sliding window of 8"):
        token_logprobs(model, PROMPTS, COMPLETIONS)
    found = values(token_logprobs(model, PROMPTS, COMPLETIONS, share_prompt=False))
    for row, (prompt, completion) in zip(found, FLAT, strict=True):
        assert row == pytest.approx(teacher_forced(model, prompt, completion), abs=2e-5)


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
