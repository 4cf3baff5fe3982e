"""The engine over transformers, held to ``model.generate``, to teacher-forced forwards and to one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from transformers import PreTrainedModel

from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.model.policy import EMBEDDED, load_policy
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine, uniform_noise
from omnithink_pl.types import Completion
from tests.rollout.agreement import UNUSABLE, assert_ended, assert_law_5_with_top_p, tokens
from tests.tiny import EOS, TinyPolicy, random_tokens, teacher_forced, tiny_llama, tiny_qwen

Groups = list[tuple[Completion, ...]]

PROMPTS = random_tokens(5, 11, 8, 3, 8)
SEEDS = [40, 7, 11, 2**63 - 1, 0]
SAMPLING = Sampling(4, 0.9, 0.95, 20)
STOPS = range(40, 56)  # many stop tokens, so that rows end all along the way
MODELS = pytest.mark.parametrize("build", [tiny_qwen, tiny_llama])


def engine(batch_rows: int = 64, build: Callable[[], PreTrainedModel] = tiny_qwen) -> TransformersEngine:
    policy = TinyPolicy(build())
    policy.model.generation_config.eos_token_id = list(STOPS)
    made = TransformersEngine(batch_rows)
    made.attach(policy)  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def alone() -> Groups:
    """Every prompt by itself, one completion after the other."""
    made = engine(batch_rows=1)
    groups = [made.generate([p], SAMPLING, [seed])[0] for p, seed in zip(PROMPTS, SEEDS, strict=True)]
    assert len({len(ids) for group in tokens(groups) for ids in group}) > 5
    return groups


def assert_same(groups: Groups, expected: Groups) -> None:
    assert tokens(groups) == tokens(expected)
    for ours, theirs in zip(sum(groups, ()), sum(expected, ()), strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


# Independent references


def generated(model: PreTrainedModel, prompt: list[int], length: int) -> tuple[int, ...]:
    output = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=length)
    return tuple(output[0, len(prompt) :].tolist())


@MODELS
def test_greedy_equals_generate(build: Callable[[], PreTrainedModel]) -> None:
    policy = TinyPolicy(build())
    # End the first prompt's completion in the middle, so that rows end at different times.
    policy.eos_id = policy.model.generation_config.eos_token_id = generated(policy.model, PROMPTS[0], 24)[6]
    made = TransformersEngine()
    made.attach(policy)  # type: ignore[arg-type]
    groups = made.generate(PROMPTS, Sampling(temperature=0.0, max_tokens=24), SEEDS)
    assert [group[0] for group in tokens(groups)] == [generated(policy.model, p, 24) for p in PROMPTS]
    assert {completion.finish_reason for group in groups for completion in group} == {"stop", "length"}


@MODELS
@pytest.mark.parametrize(
    "sampling",
    [Sampling(6, 1.0, 1.0, 12), Sampling(6, 0.6, 1.0, 12), Sampling(6, 1.5, 0.7, 12), Sampling(1, 0.0, 1.0, 12)],
    ids=["T=1", "T=0.6", "T=1.5 top-p", "greedy"],
)
def test_logprobs_equal_a_teacher_forced_forward(build: Callable[[], PreTrainedModel], sampling: Sampling) -> None:
    made = engine(build=build)
    at = (sampling.temperature or 1.0, sampling.top_p)
    for prompt, group in zip(PROMPTS, made.generate(PROMPTS, sampling, SEEDS), strict=True):
        for completion in group:
            expected = teacher_forced(made._policy.model, prompt, completion.token_ids, *at)
            assert completion.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (1.5, 0.7), (0.7, 0.95)])
def test_law_5_every_ratio_is_one_with_top_p(temperature: float, top_p: float) -> None:
    made, policy = TransformersEngine(), TinyPolicy(tiny_qwen())
    made.attach(policy)  # type: ignore[arg-type]
    assert_law_5_with_top_p(made, policy, temperature, top_p)


def test_sampler_and_trainer_agree_on_the_embedded_policy() -> None:
    policy, made = load_policy(EMBEDDED), TransformersEngine()
    made.attach(policy)
    questions = ["What is 3 + 4?", "Tell a story about a fox, with the words river, moon and stone."]
    prompts = [policy.encode([{"role": "user", "content": question}]) for question in questions]
    sampled = made.generate(prompts, Sampling(8, 1.0, max_tokens=40), [0, 1])
    assert all(one.text == policy.decode(one.token_ids) for one in sum(sampled, ()))
    trained = token_logprobs(policy.model, prompts, tokens(sampled))
    expected = torch.tensor([value for group in sampled for completion in group for value in completion.logprobs])
    assert torch.allclose(trained.logprobs[trained.mask], expected, atol=1e-4)


# A prompt's completions are a function of the prompt and its seed


def test_neither_the_order_of_the_prompts_nor_other_prompts_make_a_difference(alone: Groups) -> None:
    made = engine()
    subsets = [range(1, 5), range(4), range(0, 5, 2), range(1, 5, 2), range(2, 5, 3)]
    for rows in [*subsets, *list(permutations(range(5)))[::17]]:
        groups = made.generate([PROMPTS[i] for i in rows], SAMPLING, [SEEDS[i] for i in rows])
        assert tokens(groups) == [tokens(alone)[i] for i in rows]


@pytest.mark.parametrize("batch_rows", [2, 3, 7, 64])
def test_the_batch_size_makes_no_difference_and_every_group_is_handed_over_once(batch_rows: int, alone: Groups) -> None:
    finished: list[tuple[int, tuple[Completion, ...]]] = []
    groups = engine(batch_rows).generate(PROMPTS, SAMPLING, SEEDS, lambda *group: finished.append(group))
    assert_same(groups, alone)
    assert sorted(index for index, _ in finished) == list(range(5))
    assert all(group == groups[index] for index, group in finished)


def test_completions_of_a_prompt_differ_and_so_do_those_of_two_seeds() -> None:
    first, second = tokens(engine().generate([PROMPTS[0]] * 2, SAMPLING, [1, 2]))
    assert len({*first, *second}) == 8


def test_the_noise_of_a_seed_is_uniform_and_differs_by_completion() -> None:
    noise = torch.stack([uniform_noise(seed, Sampling(50, max_tokens=100)) for seed in (3, 4)])
    assert noise.shape == (2, 50, 100)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.02)
    assert len({row.sum().item() for row in noise.flatten(0, 1)}) == 100


# The end of a completion


def test_a_completion_ends_at_the_first_stop_token_or_is_cut(alone: Groups) -> None:
    assert_ended(alone, {EOS, *STOPS}, SAMPLING.max_tokens)


def test_a_group_is_handed_over_while_others_are_still_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    forwards, at = 0, {}
    forward = type(made._policy.model).forward

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal forwards
        forwards += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(type(made._policy.model), "forward", counted)
    groups = made.generate(PROMPTS, SAMPLING, SEEDS, lambda index, _: at.update({index: forwards}))
    longest = [max(len(completion.token_ids) for completion in group) for group in groups]
    assert len(set(longest)) > 1
    # One forward of the prompts and one for each further token.
    assert [at[index] for index in range(5)] == longest


# Partial completions


def continued(made: TransformersEngine, segment: int) -> Groups:
    """Call again and again until no completion is open."""
    sampling, calls = SAMPLING.in_segments(segment), 0
    groups: Groups | None = None
    while groups is None or any(map(sampling.is_open, sum(groups, ()))):
        before = sum(groups or [], ())
        groups, calls = made.generate(PROMPTS, sampling, SEEDS, partial=groups), calls + 1
        for old, new in zip(before, sum(groups, ()), strict=bool(before)):
            assert len(new.token_ids) - len(old.token_ids) <= segment
    assert calls <= -(-SAMPLING.max_tokens // segment)
    return groups


@pytest.mark.parametrize(("segment", "batch_rows"), [(1, 64), (7, 3), (7, 64), (10, 64), (20, 3), (99, 64)])
def test_segments_make_the_completion_that_one_call_makes(segment: int, batch_rows: int, alone: Groups) -> None:
    assert_same(continued(engine(batch_rows), segment), alone)


def test_new_prompts_and_partial_completions_are_sampled_in_one_call(alone: Groups) -> None:
    made, segment = engine(), SAMPLING.in_segments(6)
    first = made.generate(PROMPTS[:2], segment, SEEDS[:2])
    finished: dict[int, tuple[Completion, ...]] = {}
    groups = made.generate(PROMPTS, SAMPLING, SEEDS, lambda i, group: finished.update({i: group}), [*first, (), (), ()])
    assert tokens(groups) == tokens(alone)
    assert [finished[i] for i in range(5)] == groups
    again = made.generate(PROMPTS, segment, SEEDS, lambda i, _: finished.pop(i), groups)
    assert again == groups, "ended completions are returned unchanged"
    assert finished == {}


def test_a_prefix_keeps_its_logprobs_and_the_rest_has_those_of_the_current_weights() -> None:
    made, segment = engine(), SAMPLING.in_segments(6)
    model = made._policy.model
    partial = made.generate(PROMPTS, segment, SEEDS)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.1 * model.model.embed_tokens.weight.flip(0))
    groups, continued = made.generate(PROMPTS, SAMPLING, SEEDS, partial=partial), 0
    for prompt, before, after in zip(PROMPTS, partial, groups, strict=True):
        for head, whole in zip(before, after, strict=True):
            n = len(head.token_ids)
            assert (whole.token_ids[:n], whole.logprobs[:n]) == (head.token_ids, head.logprobs)
            expected = teacher_forced(model, prompt, whole.token_ids, SAMPLING.temperature, SAMPLING.top_p)
            assert whole.logprobs[n:] == pytest.approx(expected[n:], abs=1e-4)
            continued += len(whole.token_ids) > n
            if segment.is_open(head):
                assert head.logprobs != pytest.approx(expected[:n], abs=1e-2), "the weights did change"
    assert continued > 8


# What is left unchanged, and what is refused


def test_sampling_changes_neither_random_state_nor_model() -> None:
    made = engine()
    model = made._policy.model.train()
    model.model.layers[0].eval()
    modes, before = [module.training for module in model.modules()], torch.get_rng_state()
    made.generate(PROMPTS, Sampling(2, max_tokens=4), SEEDS)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    assert torch.is_grad_enabled()
    model(torch.tensor(PROMPTS[:1])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@UNUSABLE
def test_an_unusable_prompt_is_named(prompts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine().generate(prompts, Sampling(max_tokens=20), seeds=[0, 1])


def test_an_engine_without_a_policy_or_without_rows_says_so() -> None:
    with pytest.raises(RuntimeError, match="attach"):
        TransformersEngine().generate(PROMPTS, Sampling(), SEEDS)
    with pytest.raises(ValueError, match="batch_rows is 0"):
        TransformersEngine(batch_rows=0)
