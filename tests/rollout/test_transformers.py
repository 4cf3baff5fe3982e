"""The engine over transformers, held to ``model.generate`` and to teacher-forced forwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.types import Completion
from tests.tiny import EOS, TinyPolicy, random_tokens, teacher_forced, tiny_llama, tiny_qwen

PROMPTS = random_tokens(5, 11, 8, 3)
SEEDS, OTHERS = range(4), range(4, 8)
MODELS = pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])


def engine(policy: TinyPolicy, batch_rows: int = 64) -> TransformersEngine:
    made = TransformersEngine(batch_rows)
    made.attach(policy)  # type: ignore[arg-type]
    return made


def tokens(results: list[tuple[Completion, ...]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in results]


def generated(model: PreTrainedModel, prompt: list[int], length: int) -> tuple[int, ...]:
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=length,
    )
    return tuple(output[0, len(prompt) :].tolist())


@MODELS
def test_greedy_equals_generate(build: Callable[[], PreTrainedModel]) -> None:
    policy = TinyPolicy(build())
    # End the first prompt's completion in the middle, so that rows end at different times.
    policy.eos_id = generated(policy.model, PROMPTS[0], 24)[6]
    policy.model.generation_config.eos_token_id = policy.eos_id
    found = engine(policy).generate(PROMPTS, Sampling(temperature=0.0, max_tokens=24), seeds=SEEDS)
    assert [group[0] for group in tokens(found)] == [generated(policy.model, p, 24) for p in PROMPTS]
    assert {completion.finish_reason for group in found for completion in group} == {"stop", "length"}


@MODELS
@pytest.mark.parametrize(
    "sampling",
    [Sampling(6, 1.0, 1.0, 12), Sampling(6, 0.6, 1.0, 12), Sampling(6, 1.5, 0.7, 12), Sampling(1, 0.0, 1.0, 12)],
    ids=["T=1", "T=0.6", "T=1.5 top-p", "greedy"],
)
def test_logprobs_equal_a_teacher_forced_forward(build: Callable[[], PreTrainedModel], sampling: Sampling) -> None:
    policy = TinyPolicy(build())
    found = engine(policy).generate(PROMPTS, sampling, seeds=SEEDS)
    for prompt, group in zip(PROMPTS, found, strict=True):
        for completion in group:
            at = (sampling.temperature or 1.0, sampling.top_p)
            expected = teacher_forced(policy.model, prompt, completion.token_ids, *at)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_completions_of_one_prompt_differ_and_a_seed_repeats_them() -> None:
    policy = TinyPolicy(tiny_qwen())
    sampling = Sampling(4, max_tokens=10)
    first, again, other = (
        tokens(engine(policy).generate(PROMPTS, sampling, seeds)) for seeds in (SEEDS, SEEDS, OTHERS)
    )
    assert first == again
    assert first != other
    assert all(len(set(group)) > 1 for group in first)


@pytest.mark.parametrize("batch_rows", [1, 3, 4, 9])
def test_the_result_does_not_depend_on_how_prompts_are_batched(batch_rows: int) -> None:
    policy = TinyPolicy(tiny_qwen())
    sampling = Sampling(4, max_tokens=12)
    whole = engine(policy).generate(PROMPTS, sampling, seeds=SEEDS)
    assert tokens(engine(policy, batch_rows).generate(PROMPTS, sampling, seeds=SEEDS)) == tokens(whole)


def test_a_completion_ends_at_the_first_stop_token_or_is_cut() -> None:
    policy = TinyPolicy(tiny_qwen())
    # Many stop tokens, so that rows leave the batch all along the way.
    policy.model.generation_config.eos_token_id = list(range(100, 110))
    stops = {EOS, *range(100, 110)}
    found = engine(policy).generate(PROMPTS, Sampling(16, max_tokens=20), seeds=SEEDS)
    reasons = set()
    for completion in (completion for group in found for completion in group):
        ended = completion.token_ids[-1] in stops
        assert not stops & set(completion.token_ids[:-1])
        assert ended or len(completion.token_ids) == 20
        assert completion.finish_reason == ("stop" if ended else "length")
        assert len(completion.logprobs) == len(completion.token_ids)
        reasons.add(completion.finish_reason)
    assert reasons == {"stop", "length"}


def test_rows_that_outlive_others_are_continued_correctly() -> None:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(40, 60))
    found = engine(policy).generate(PROMPTS, Sampling(8, max_tokens=20), seeds=SEEDS)
    lengths = {len(completion.token_ids) for group in found for completion in group}
    assert len(lengths) > 5
    for prompt, group in zip(PROMPTS, found, strict=True):
        for completion in group:
            expected = teacher_forced(policy.model, prompt, completion.token_ids)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_sampling_leaves_no_trace() -> None:
    policy = TinyPolicy(tiny_qwen())
    policy.model.train()
    policy.model.model.layers[0].eval()
    modes = [module.training for module in policy.model.modules()]
    before = torch.get_rng_state()
    engine(policy).generate(PROMPTS, Sampling(2, max_tokens=4), seeds=SEEDS)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in policy.model.modules()] == modes
    assert policy.model.config._attn_implementation == "sdpa"
    policy.model(torch.tensor(PROMPTS[:1])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in policy.model.parameters())


def test_the_engine_sees_new_weights() -> None:
    policy = TinyPolicy(tiny_qwen())
    attached = engine(policy)
    greedy = Sampling(temperature=0.0, max_tokens=8)
    before = tokens(attached.generate(PROMPTS, greedy, seeds=SEEDS))
    with torch.no_grad():
        policy.model.model.embed_tokens.weight.copy_(policy.model.model.embed_tokens.weight.flip(0))
    attached.sync()
    assert tokens(attached.generate(PROMPTS, greedy, seeds=SEEDS)) != before


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([[5], []], "prompt 1 has no tokens"), ([[5], [5] * 120], "prompt 1 has 120 tokens.*max_tokens=20.*128")],
)
def test_an_unusable_prompt_is_named(prompts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(TinyPolicy(tiny_qwen())).generate(prompts, Sampling(max_tokens=20), seeds=[0, 1])


def test_an_engine_without_a_policy_says_so() -> None:
    with pytest.raises(RuntimeError, match="attach"):
        TransformersEngine().generate(PROMPTS, Sampling(), seeds=SEEDS)


def test_batch_rows_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_rows is 0"):
        TransformersEngine(batch_rows=0)
