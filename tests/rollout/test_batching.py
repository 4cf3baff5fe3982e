"""What is sampled for a prompt is a function of the prompt and its seed, and handed over as soon as it is there."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from omnithink_pl.rollout.base import Sampling
from omnithink_pl.rollout.transformers import TransformersEngine, draw_noise
from omnithink_pl.types import Completion
from tests.tiny import TinyPolicy, random_tokens, tiny_qwen

PROMPTS = random_tokens(5, 11, 8, 3, 8)
SEEDS = [40, 7, 11, 2**63 - 1, 0]
SAMPLING = Sampling(3, 0.9, 0.95, 14)

Groups = list[tuple[Completion, ...]]


def engine(batch_rows: int = 64) -> TransformersEngine:
    policy = TinyPolicy(tiny_qwen())
    policy.model.generation_config.eos_token_id = list(range(40, 60))  # so that lengths differ
    made = TransformersEngine(batch_rows)
    made.attach(policy)  # type: ignore[arg-type]
    return made


def tokens(groups: Groups) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


@pytest.fixture(scope="module")
def alone() -> list[list[tuple[int, ...]]]:
    """Every prompt by itself, one completion after the other."""
    made = engine(batch_rows=1)
    return [tokens(made.generate([prompt], SAMPLING, [seed]))[0] for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]


def test_the_order_of_the_prompts_makes_no_difference(alone: list[list[tuple[int, ...]]]) -> None:
    made = engine()
    for order in list(permutations(range(5)))[::17]:
        found = made.generate([PROMPTS[i] for i in order], SAMPLING, [SEEDS[i] for i in order])
        assert tokens(found) == [alone[i] for i in order]


@pytest.mark.parametrize("left_out", range(5))
def test_a_prompt_that_is_left_out_changes_nothing_for_the_others(
    left_out: int, alone: list[list[tuple[int, ...]]]
) -> None:
    rest = [i for i in range(5) if i != left_out]
    found = engine().generate([PROMPTS[i] for i in rest], SAMPLING, [SEEDS[i] for i in rest])
    assert tokens(found) == [alone[i] for i in rest]


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_draw_for_their_prompts_what_one_would_draw(ranks: int, alone: list[list[tuple[int, ...]]]) -> None:
    for rank in range(ranks):
        found = engine().generate(PROMPTS[rank::ranks], SAMPLING, SEEDS[rank::ranks])
        assert tokens(found) == alone[rank::ranks]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 7, 64])
def test_how_many_rows_are_decoded_together_makes_no_difference(
    batch_rows: int, alone: list[list[tuple[int, ...]]]
) -> None:
    assert tokens(engine(batch_rows).generate(PROMPTS, SAMPLING, SEEDS)) == alone


def test_one_prompt_with_two_seeds_is_answered_differently() -> None:
    first, second = tokens(engine().generate([PROMPTS[0]] * 2, SAMPLING, [1, 2]))
    assert first != second


def test_longer_completions_begin_as_shorter_ones_do() -> None:
    short, long = (tokens(engine().generate(PROMPTS, Sampling(1, max_tokens=n), SEEDS)) for n in (6, 14))
    assert [group[0] for group in short] == [group[0][:6] for group in long]


def test_the_noise_of_a_seed_is_uniform_and_its_completions_have_their_own() -> None:
    noise = draw_noise([3, 4], Sampling(50, max_tokens=100))
    assert noise.shape == (2, 50, 100)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.02)
    assert len({row.sum().item() for row in noise.flatten(0, 1)}) == 100


@pytest.mark.parametrize("batch_rows", [2, 7, 64])
def test_every_group_is_handed_over_once_and_is_what_is_returned(batch_rows: int) -> None:
    handed: list[tuple[int, tuple[Completion, ...]]] = []
    returned = engine(batch_rows).generate(PROMPTS, SAMPLING, SEEDS, lambda *group: handed.append(group))
    assert sorted(place for place, _ in handed) == list(range(5))
    assert all(group == returned[place] for place, group in handed)


def test_a_group_is_handed_over_while_others_are_still_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    forwards, at = 0, {}
    forward = type(made._policy.model).forward

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal forwards
        forwards += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(type(made._policy.model), "forward", counted)
    groups = made.generate(PROMPTS, SAMPLING, SEEDS, lambda place, _: at.update({place: forwards}))
    longest = [max(len(completion.token_ids) for completion in group) for group in groups]
    assert len(set(longest)) > 1
    # One forward of the prompts and one for each further token.
    assert [at[place] for place in range(5)] == longest
    assert torch.is_grad_enabled()
