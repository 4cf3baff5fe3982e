"""What the engine samples, held to plain forwards and to the engine over transformers."""

from __future__ import annotations

import pytest

from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.tiny import EOS, TinyPolicy, random_tokens, tiny_qwen
from tests.vllm.policies import PROMPTS, attached, distance, tokens

SEEDS = range(4)


@pytest.fixture(scope="module")
def built() -> tuple[ColocatedVLLM, TinyPolicy]:
    return attached(tiny_qwen())


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logprobs_are_those_of_the_distribution_sampled_from(
    built: tuple[ColocatedVLLM, TinyPolicy], temperature: float
) -> None:
    engine, policy = built
    assert distance(engine, policy.model, Sampling(6, temperature, 1.0, 12)) < 1e-4


def test_greedy_equals_the_transformers_engine_and_carries_logprobs_of_temperature_one(
    built: tuple[ColocatedVLLM, TinyPolicy],
) -> None:
    engine, policy = built
    other = TransformersEngine()
    other.attach(policy)  # type: ignore[arg-type]
    greedy = Sampling(temperature=0.0, top_p=0.5, max_tokens=16)
    found, right = engine.generate(PROMPTS, greedy, SEEDS), other.generate(PROMPTS, greedy, SEEDS)
    assert tokens(found) == tokens(right)
    for (ours,), (theirs,) in zip(found, right, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def test_a_seed_repeats_the_completions_and_those_of_one_prompt_differ(
    built: tuple[ColocatedVLLM, TinyPolicy],
) -> None:
    engine, _ = built
    sampling = Sampling(4, max_tokens=10)
    first, again, other = (engine.generate(PROMPTS, sampling, seeds) for seeds in (SEEDS, SEEDS, range(4, 8)))
    assert first == again
    assert tokens(first) != tokens(other)
    assert all(len(set(group)) == 4 for group in tokens(first))


def test_a_prompts_completions_do_not_depend_on_the_prompts_beside_it(
    built: tuple[ColocatedVLLM, TinyPolicy],
) -> None:
    engine, _ = built
    sampling = Sampling(4, max_tokens=10)
    whole = tokens(engine.generate(PROMPTS, sampling, SEEDS))
    halves = [tokens(engine.generate(PROMPTS[rank::2], sampling, SEEDS[rank::2])) for rank in range(2)]
    assert [halves[place % 2][place // 2] for place in range(4)] == whole


def test_a_prompt_that_occurs_twice_is_answered_differently(built: tuple[ColocatedVLLM, TinyPolicy]) -> None:
    engine, _ = built
    first, second = tokens(engine.generate([PROMPTS[0], PROMPTS[0]], Sampling(4, max_tokens=10), [1, 2]))
    assert not set(first) & set(second)


def test_a_completion_ends_at_the_first_stop_token_or_is_cut() -> None:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(100, 110))
    engine = ColocatedVLLM(kv_cache_gib=0.02)
    engine.attach(policy)  # type: ignore[arg-type]
    stops, reasons = {EOS, *range(100, 110)}, set()
    for group in engine.generate(PROMPTS, Sampling(16, max_tokens=20), SEEDS):
        for completion in group:
            ended = completion.token_ids[-1] in stops
            assert not stops & set(completion.token_ids[:-1])
            assert ended or len(completion.token_ids) == 20
            assert completion.finish_reason == ("stop" if ended else "length")
            assert len(completion.logprobs) == len(completion.token_ids)
            reasons.add(completion.finish_reason)
    assert reasons == {"stop", "length"}


def test_every_group_is_handed_over_once_as_soon_as_it_is_there() -> None:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(100, 110))
    engine = ColocatedVLLM(kv_cache_gib=0.02)
    engine.attach(policy)  # type: ignore[arg-type]
    handed = {}
    groups = engine.generate(
        PROMPTS, Sampling(2, max_tokens=20), SEEDS, lambda place, group: handed.update({place: group})
    )
    assert [handed[place] for place in range(4)] == groups
    last = [max(len(completion.token_ids) for completion in group) for group in groups]
    assert len(set(last)) > 1
    assert list(handed) == sorted(handed, key=lambda place: last[place])


def test_more_completions_than_fit_are_decoded_all_the_same() -> None:
    engine, policy = attached(tiny_qwen(), max_rows=3)
    assert distance(engine, policy.model, Sampling(8, max_tokens=12)) < 1e-4


def test_more_prompt_tokens_than_one_step_takes_are_computed_all_the_same() -> None:
    engine, policy = attached(tiny_qwen())
    prompts = random_tokens(*range(60, 120))  # 5370 tokens, where a step takes 4096
    assert distance(engine, policy.model, Sampling(2, max_tokens=2), prompts) < 1e-4


def test_no_prompts_no_completions(built: tuple[ColocatedVLLM, TinyPolicy]) -> None:
    assert built[0].generate([], Sampling(), []) == []


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([[5], []], "prompt 1 has no tokens"), ([[5], [5] * 120], "prompt 1 has 120 tokens.*max_tokens=20.*128")],
)
def test_an_unusable_prompt_is_named(
    built: tuple[ColocatedVLLM, TinyPolicy], prompts: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        built[0].generate(prompts, Sampling(max_tokens=20), [0, 1])


def test_an_engine_without_a_policy_says_so() -> None:
    with pytest.raises(RuntimeError, match="attach"):
        ColocatedVLLM().generate(PROMPTS, Sampling(), SEEDS)
