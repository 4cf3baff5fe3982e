"""A completion that is cut and continued: by the same weights it is the one that was not cut; others only go on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, random_tokens, teacher_forced, tiny_qwen

PROMPTS = random_tokens(5, 11, 8, 3)
SEEDS = [40, 7, 11, 0]
WHOLE = Sampling(4, 0.9, 0.95, 20)
Groups = list[tuple[Completion, ...]]


def engine(batch_rows: int = 64) -> TransformersEngine:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(40, 48))  # so that lengths differ
    made = TransformersEngine(batch_rows)
    made.attach(policy)  # type: ignore[arg-type]
    return made


def continued(made: TransformersEngine, segment: int, begun: Groups | None = None) -> Groups:
    """Called again and again until nothing is open."""
    sampling, calls = WHOLE.in_segments(segment), 0
    while begun is None or any(sampling.is_open(one) for group in begun for one in group):
        begun, calls = made.generate(PROMPTS, sampling, SEEDS, begun=begun), calls + 1
    assert calls <= -(-WHOLE.max_tokens // segment)
    return begun


def tokens(groups: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


@pytest.fixture(scope="module")
def uncut() -> Groups:
    found = engine().generate(PROMPTS, WHOLE, SEEDS)
    assert len({len(row) for group in tokens(found) for row in group}) > 5
    return found


@pytest.mark.parametrize("segment", [1, 7, 10, 20, 99])
@pytest.mark.parametrize("batch_rows", [3, 64])
def test_segments_make_the_completion_that_one_call_makes(segment: int, batch_rows: int, uncut: Groups) -> None:
    found = continued(engine(batch_rows), segment)
    assert tokens(found) == tokens(uncut)
    for ours, theirs in zip(sum(found, ()), sum(uncut, ()), strict=True):
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def test_one_call_draws_at_most_a_segment_and_never_more_than_max_tokens() -> None:
    made, sampling = engine(), WHOLE.in_segments(6)
    begun, length = None, 0
    for _ in range(4):
        begun = made.generate(PROMPTS, sampling, SEEDS, begun=begun)
        length = min(length + 6, 20)
        assert max(len(row) for group in tokens(begun) for row in group) == length
    assert not any(sampling.is_open(one) for group in begun for one in group)


def test_new_prompts_and_others_that_go_on_are_drawn_in_one_call(uncut: Groups) -> None:
    made, segment = engine(), WHOLE.in_segments(6)
    first = made.generate(PROMPTS[:2], segment, SEEDS[:2])
    handed: dict[int, tuple[Completion, ...]] = {}
    found = made.generate(PROMPTS, WHOLE, SEEDS, lambda place, group: handed.update({place: group}), [*first, (), ()])
    assert tokens(found) == tokens(uncut)
    assert [handed[place] for place in range(4)] == found
    again = made.generate(PROMPTS, segment, SEEDS, lambda place, group: handed.pop(place), found)
    assert again == found, "what has ended is returned as it is"
    assert handed == {}


def test_what_was_drawn_stays_and_the_rest_is_the_present_policys() -> None:
    made, segment = engine(), WHOLE.in_segments(6)
    model = made._policy.model  # type: ignore[union-attr]
    begun = made.generate(PROMPTS, segment, SEEDS)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.1 * model.model.embed_tokens.weight.flip(0))
    found, going_on = made.generate(PROMPTS, WHOLE, SEEDS, begun=begun), 0
    for prompt, before, after in zip(PROMPTS, begun, found, strict=True):
        for head, whole in zip(before, after, strict=True):
            drawn = len(head.token_ids)
            assert (whole.token_ids[:drawn], whole.logprobs[:drawn]) == (head.token_ids, head.logprobs)
            expected = teacher_forced(model, prompt, whole.token_ids, WHOLE.temperature, WHOLE.top_p)
            assert whole.logprobs[drawn:] == pytest.approx(expected[drawn:], abs=1e-4)
            going_on += len(whole.token_ids) > drawn
            if segment.is_open(head):
                assert head.logprobs != pytest.approx(expected[:drawn], abs=1e-2), "the weights did change"
    assert going_on > 8
