"""Properties of the division into micro-batches, over random batches."""

from __future__ import annotations

import random

import pytest

from omnithink_pl.model.micro_batches import Part, split

Groups = list[tuple[int, list[int]]]
SHARING = pytest.mark.parametrize("share_prompt", [True, False])


def batches() -> list[tuple[Groups, int]]:
    rng = random.Random(0)
    return [
        (
            [
                (rng.randint(1, 20), [rng.randint(1, 30) for _ in range(rng.randint(0, 6))])
                for _ in range(rng.randint(1, 6))
            ],
            rng.choice([1, 10, 30, 60, 100, 200, 1000]),
        )
        for _ in range(300)
    ]


def tokens(micro_batch: tuple[Part, ...], groups: Groups, share_prompt: bool) -> int:
    """Rows times longest row, or the sum where nothing is padded: from the definition of the two layouts."""
    rows = []
    for group, completions in micro_batch:
        prompt, lengths = groups[group]
        if share_prompt:
            rows.append(prompt + sum(lengths[index] for index in completions))
        else:
            rows += [prompt + lengths[index] for index in completions]
    return sum(rows) if share_prompt else len(rows) * max(rows)


@SHARING
def test_every_completion_occurs_exactly_once(share_prompt: bool) -> None:
    for groups, budget in batches():
        found = [(g, i) for batch in split(groups, budget, share_prompt) for g, part in batch for i in part]
        assert sorted(found) == [(g, i) for g, (_, lengths) in enumerate(groups) for i in range(len(lengths))]


@SHARING
def test_the_budget_holds_but_for_a_completion_that_exceeds_it_alone(share_prompt: bool) -> None:
    for groups, budget in batches():
        for micro_batch in split(groups, budget, share_prompt):
            if tokens(micro_batch, groups, share_prompt) > budget:
                assert len(micro_batch) == 1
                assert len(micro_batch[0].completions) == 1


@SHARING
def test_a_group_occurs_once_in_a_micro_batch_and_is_cut_only_when_it_must(share_prompt: bool) -> None:
    for groups, budget in batches():
        micro_batches = split(groups, budget, share_prompt)
        for micro_batch in micro_batches:
            assert len({part.group for part in micro_batch}) == len(micro_batch)
        for group, (prompt, lengths) in enumerate(groups):
            pieces = sum(part.group == group for micro_batch in micro_batches for part in micro_batch)
            whole = prompt + sum(lengths) if share_prompt else len(lengths) * (prompt + max(lengths, default=0))
            fits = whole <= budget or len(lengths) == 1
            assert pieces == 0 if not lengths else (pieces == 1) == fits


def test_a_batch_within_the_budget_stays_whole() -> None:
    assert split([(5, [3, 4]), (6, [2, 4])], token_budget=24) == [((0, (0, 1)), (1, (0, 1)))]


def test_a_packed_row_is_filled_wherever_there_is_a_gap() -> None:
    groups = [(10, [50]), (10, [30]), (5, [10]), (5, [10])]
    assert split(groups, token_budget=75) == [((0, (0,)), (2, (0,))), ((1, (0,)), (3, (0,)))]


def test_sharing_counts_a_prompt_once() -> None:
    groups = [(10, [5, 5])]
    assert len(split(groups, token_budget=20, share_prompt=True)) == 1
    assert len(split(groups, token_budget=20, share_prompt=False)) == 2
