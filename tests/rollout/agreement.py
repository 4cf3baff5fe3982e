"""How far an engine's log-probabilities are from the trainer's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from omnithink_pl.model.logprobs import token_logprobs
from omnithink_pl.rollout.base import RolloutEngine, Sampling
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, random_tokens, teacher_forced

PROMPTS = random_tokens(5, 11, 8, 3)


def tokens(groups: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


def assert_ended(groups: Sequence[Sequence[Completion]], stops: set[int], max_tokens: int) -> None:
    """Each completion ends at its first stop token or is cut, and there are both."""
    reasons = set()
    for completion in (one for group in groups for one in group):
        ended = completion.token_ids[-1] in stops
        assert not stops & set(completion.token_ids[:-1])
        assert ended or len(completion.token_ids) == max_tokens
        assert completion.finish_reason == ("stop" if ended else "length")
        assert len(completion.logprobs) == len(completion.token_ids)
        reasons.add(completion.finish_reason)
    assert reasons == {"stop", "length"}


UNUSABLE = pytest.mark.parametrize(
    ("prompts", "message"),
    [([[5], []], "prompt 1 has no tokens"), ([[5], [5] * 120], "prompt 1 has 120 tokens.*max_tokens=20.*128")],
)


def distance(
    engine: RolloutEngine,
    model: PreTrainedModel,
    sampling: Sampling = Sampling(4, max_tokens=12),  # noqa: B008  (frozen)
    prompts: Sequence[Sequence[int]] = PROMPTS,
) -> float:
    """Largest difference between the engine's log-probabilities and those of a forward, one sequence at a time."""
    groups = engine.generate(prompts, sampling, seeds=range(len(prompts)))
    return max(
        abs(ours - right)
        for prompt, group in zip(prompts, groups, strict=True)
        for completion in group
        for ours, right in zip(
            completion.logprobs,
            teacher_forced(model, prompt, completion.token_ids, sampling.temperature, sampling.top_p),
            strict=True,
        )
    )


def assert_law_5_with_top_p(engine: RolloutEngine, policy: TinyPolicy, temperature: float, top_p: float) -> None:
    """On fresh rollouts every ratio is 1: sampler and trainer mean the same truncated distribution."""
    groups = engine.generate(PROMPTS, Sampling(8, temperature, top_p, 16), seeds=range(4))
    trained = token_logprobs(policy.model, PROMPTS, tokens(groups), temperature, top_p=top_p)
    sampled = torch.tensor([value for group in groups for completion in group for value in completion.logprobs])
    difference = (trained.logprobs[trained.mask] - sampled).abs()
    # Where the nucleus ends at a token whose probability reaches top_p to the last digit, rounding decides.
    at_the_edge = difference >= 1e-4
    assert at_the_edge.float().mean() < 0.01
    assert difference[at_the_edge].sum() < 0.05
    whole = token_logprobs(policy.model, PROMPTS, tokens(groups), temperature)
    assert (whole.logprobs - trained.logprobs)[trained.mask].min() < -0.05, "or the nucleus would not matter here"
