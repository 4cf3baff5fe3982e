"""Properties of the division into micro-batches, over random batches."""

from __future__ import annotations

import math
import random

import pytest

from omnithink_pl.model.micro_batches import Part, balanced_micro_batches, split_micro_batches

Groups = list[tuple[int, list[int]]]
SHARING = pytest.mark.parametrize("share_prompt", [True, False])


def batches() -> list[tuple[Groups, int]]:
    rng = random.Random(0)
    group = lambda: (rng.randint(1, 20), [rng.randint(1, 30) for _ in range(rng.randint(0, 6))])  # noqa: E731
    budgets = [1, 10, 30, 60, 100, 200, 1000]
    return [([group() for _ in range(rng.randint(1, 6))], rng.choice(budgets)) for _ in range(300)]


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
def test_every_completion_occurs_once_and_the_budget_holds_but_for_one_that_exceeds_it_alone(share_prompt) -> None:
    for groups, budget in batches():
        micro_batches = split_micro_batches(groups, budget, share_prompt)
        found = [(g, i) for micro_batch in micro_batches for g, part in micro_batch for i in part]
        assert sorted(found) == [(g, i) for g, (_, lengths) in enumerate(groups) for i in range(len(lengths))]
        for micro_batch in micro_batches:
            if tokens(micro_batch, groups, share_prompt) > budget:
                assert [len(part.completions) for part in micro_batch] == [1]


@SHARING
def test_a_group_occurs_once_in_a_micro_batch_and_is_cut_only_when_it_must(share_prompt: bool) -> None:
    for groups, budget in batches():
        micro_batches = split_micro_batches(groups, budget, share_prompt)
        for micro_batch in micro_batches:
            assert len({part.group for part in micro_batch}) == len(micro_batch)
        for group, (prompt, lengths) in enumerate(groups):
            pieces = sum(part.group == group for micro_batch in micro_batches for part in micro_batch)
            whole = prompt + sum(lengths) if share_prompt else len(lengths) * (prompt + max(lengths, default=0))
            fits = whole <= budget or len(lengths) == 1
            assert pieces == 0 if not lengths else (pieces == 1) == fits


def test_a_packed_row_counts_a_prompt_once_and_is_filled_wherever_there_is_a_gap() -> None:
    assert [len(split_micro_batches([(10, [5, 5])], 20, share_prompt)) for share_prompt in (True, False)] == [1, 2]
    groups = [(10, [50]), (10, [30]), (5, [10]), (5, [10])]
    assert split_micro_batches(groups, token_budget=75) == [((0, (0,)), (2, (0,))), ((1, (0,)), (3, (0,)))]


@SHARING
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_get_equally_many_micro_batches_which_hold_the_whole_batch(share_prompt: bool, processes) -> None:
    for groups, budget in batches()[:100]:
        dealt = balanced_micro_batches(groups, budget, share_prompt, processes)
        found = [(g, i) for own in dealt for micro_batch in own for g, part in micro_batch for i in part]
        assert sorted(found) == [(g, i) for g, (_, lengths) in enumerate(groups) for i in range(len(lengths))]
        plain = split_micro_batches(groups, budget, share_prompt)
        passes = max(map(len, dealt))
        assert passes == math.ceil(len(plain) / processes), "no pass more than the budget needs"
        if len(found) >= passes * processes:
            assert {len(own) for own in dealt} == {passes}, "no padding pass"
        for own in dealt:
            for micro_batch in own:
                size = tokens(micro_batch, groups, share_prompt)
                assert size <= budget or [len(part.completions) for part in micro_batch] == [1]


def test_micro_batches_of_one_pass_are_of_similar_size() -> None:
    rng = random.Random(0)
    groups = [(256, [min(4096, int(rng.lognormvariate(6.4, 0.8)) + 1) for _ in range(16)]) for _ in range(32)]
    dealt = balanced_micro_batches(groups, 16384, True, 8)
    sizes = [[tokens(micro_batch, groups, True) for micro_batch in own] for own in dealt]
    waited = sum(max(row) * len(row) - sum(row) for row in zip(*sizes, strict=True))
    assert waited / sum(map(sum, sizes)) < 0.1
