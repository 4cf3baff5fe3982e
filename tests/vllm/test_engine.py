"""What the colocated engine samples, held to plain forwards and to the engine over transformers."""

from __future__ import annotations

from functools import partial
from itertools import islice

import pytest
from torch import nn

from benchmarks.lengths import PlannedEngine, log_normal
from omnithink_pl.errors import EngineFailure
from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.rollout.vllm import ColocatedVLLM
from tests.rollout.agreement import PROMPTS, UNUSABLE, assert_ended, assert_law_5_with_top_p, distance, tokens
from tests.tiny import EOS, TinyPolicy, random_tokens, teacher_forced, tiny_qwen
from tests.vllm.engines import attached, follow, perturb

pytestmark = pytest.mark.slow

SEEDS = range(4)
STOPS = range(100, 110)
SAMPLING = Sampling(4, max_tokens=20)


@pytest.fixture(scope="module")
def policy(qwen_engine: ColocatedVLLM) -> TinyPolicy:
    return follow(qwen_engine, tiny_qwen())


@pytest.fixture(scope="module")
def engine(qwen_engine: ColocatedVLLM, policy: TinyPolicy) -> ColocatedVLLM:
    return qwen_engine


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logprobs_are_those_of_the_distribution_sampled_from(
    engine: ColocatedVLLM, policy: TinyPolicy, temperature: float
) -> None:
    assert distance(engine, policy.model, Sampling(6, temperature, 1.0, 12)) < 1e-4


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (1.5, 0.7), (0.7, 0.95)])
def test_law_5_every_ratio_is_one_with_top_p(
    engine: ColocatedVLLM, policy: TinyPolicy, temperature: float, top_p: float
) -> None:
    assert_law_5_with_top_p(engine, policy, temperature, top_p)


def test_greedy_equals_the_transformers_engine_and_carries_logprobs_of_temperature_one(
    engine: ColocatedVLLM, policy: TinyPolicy
) -> None:
    other = TransformersEngine()
    other.attach(policy)  # type: ignore[arg-type]
    greedy = Sampling(temperature=0.0, top_p=0.5, max_tokens=16)
    groups, expected = engine.generate(PROMPTS, greedy, SEEDS), other.generate(PROMPTS, greedy, SEEDS)
    assert tokens(groups) == tokens(expected)
    for (ours,), (theirs,) in zip(groups, expected, strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def test_completions_are_a_function_of_the_prompt_and_its_seed(engine: ColocatedVLLM) -> None:
    first, again, other = (engine.generate(PROMPTS, SAMPLING, seeds) for seeds in (SEEDS, SEEDS, range(4, 8)))
    assert first == again
    assert tokens(first) != tokens(other)
    assert all(len(set(group)) == 4 for group in tokens(first))
    halves = [tokens(engine.generate(PROMPTS[rank::2], SAMPLING, SEEDS[rank::2])) for rank in range(2)]
    assert [halves[index % 2][index // 2] for index in range(4)] == tokens(first)
    one, two = tokens(engine.generate([PROMPTS[0]] * 2, SAMPLING, [1, 2]))
    assert not set(one) & set(two)
    assert engine.generate([], SAMPLING, []) == []


def test_completions_end_at_a_stop_token_and_groups_are_handed_over_as_soon_as_they_are_complete(
    engine: ColocatedVLLM, policy: TinyPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy.model.generation_config, "eos_token_id", list(STOPS))
    finished = {}
    groups = engine.generate(PROMPTS, Sampling(6, max_tokens=20), SEEDS, lambda i, group: finished.update({i: group}))
    assert_ended(groups, {EOS, *STOPS}, 20)
    assert [finished[index] for index in range(4)] == groups
    last = [max(len(completion.token_ids) for completion in group) for group in groups]
    assert list(finished) == sorted(finished, key=lambda index: last[index])


def test_a_partial_completion_is_continued_by_the_current_weights(qwen_engine: ColocatedVLLM) -> None:
    policy, segment = follow(qwen_engine, tiny_qwen()), SAMPLING.in_segments(7)
    partial = qwen_engine.generate(PROMPTS[:3], segment, SEEDS[:3])
    assert {len(ids) for group in tokens(partial) for ids in group} >= {7}
    perturb(policy)
    qwen_engine.sync()
    finished = {}
    groups = qwen_engine.generate(PROMPTS, segment, SEEDS, lambda i, group: finished.update({i: group}), [*partial, ()])
    assert [finished[index] for index in range(4)] == groups
    for prompt, before, after in zip(PROMPTS, partial, groups, strict=False):
        for head, whole in zip(before, after, strict=True):
            n = len(head.token_ids)
            assert (whole.token_ids[:n], whole.logprobs[:n]) == (head.token_ids, head.logprobs)
            assert len(whole.token_ids) <= 14
            assert segment.is_open(head) or whole == head
            expected = teacher_forced(policy.model, prompt, whole.token_ids)
            assert whole.logprobs[n:] == pytest.approx(expected[n:], abs=1e-4)
    ended = qwen_engine.generate(PROMPTS, segment, SEEDS, partial=groups)
    assert qwen_engine.generate(PROMPTS, segment, SEEDS, partial=groups) == ended, "a seed repeats it"
    assert max(len(ids) for group in tokens(ended) for ids in group) == 20
    assert all(len(set(group)) == 4 for group in tokens(ended)), "each is continued with noise of its own"


def test_more_completions_than_rows_and_more_prompt_tokens_than_a_step_takes() -> None:
    engine, policy = attached(tiny_qwen(), max_rows=3)
    assert distance(engine, policy.model, Sampling(8, max_tokens=12)) < 1e-4
    prompts = random_tokens(*range(60, 120))  # 5370 tokens, where a step takes 4096
    assert distance(engine, policy.model, Sampling(2, max_tokens=2), prompts) < 1e-4


@UNUSABLE
def test_an_unusable_prompt_is_named(engine: ColocatedVLLM, prompts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.generate(prompts, SAMPLING, [0, 1])


@pytest.mark.parametrize(
    ("settings", "cure"),
    [({"kv_cache_gib": 1e-5}, "raise model.engine.init_args.kv_cache_gib"), ({"max_context": 4096}, "lower .*context")],
)
def test_an_engine_that_cannot_start_names_the_setting_and_without_a_policy_says_so(
    settings: dict[str, float], cure: str
) -> None:
    engine = ColocatedVLLM(**settings)
    with pytest.raises(RuntimeError, match="attach"):
        engine.generate(PROMPTS, Sampling(), SEEDS)
    with pytest.raises(EngineFailure, match=f"could not start: .*{cure}"):
        engine.attach(TinyPolicy(tiny_qwen()))


def test_benchmarks_can_plan_the_lengths() -> None:
    plans = partial(log_normal, 12, 8.0, 1.0, 30, 0)
    engine = PlannedEngine("vllm", plans)
    engine.attach(TinyPolicy(tiny_qwen()))  # type: ignore[arg-type]
    for planned in islice(plans(), 2):
        groups = engine.generate(random_tokens(5, 6, 7), Sampling(4, max_tokens=30), [1, 2, 3])
        assert [len(completion.token_ids) for group in groups for completion in group] == planned


def test_an_engine_that_dies_says_how_to_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = attached(tiny_qwen())
    monkeypatch.setattr(nn.Module, "__call__", lambda *_, **__: exec('raise RuntimeError("a kernel died")'))
    with pytest.raises(EngineFailure, match=r"could not generate: continue with --ckpt_path last.*a kernel died"):
        engine.generate(PROMPTS, Sampling(2, max_tokens=4), SEEDS)
