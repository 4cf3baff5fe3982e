"""Laws of group-normalised advantages."""

from __future__ import annotations

import math

import pytest

from omnithink_pl.grpo.advantage import GroupAdvantage, has_mixed_primary
from tests.scores import FAILED, UNDEFINED, score


def test_advantages_are_deviations_from_the_mean_in_sample_standard_deviations() -> None:
    rewards = [1.0, 0.0, 0.0, 1.0, 0.0]
    mean = sum(rewards) / 5
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / 4)
    got = GroupAdvantage()([score(r) for r in rewards])
    assert got == pytest.approx([(r - mean) / deviation for r in rewards], abs=1e-12)


@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("scale", ["std", "none"])
def test_law_1_a_group_with_equal_rewards_has_zero_advantage_bit_for_bit(reward: float, scale: str) -> None:
    noisy = [min(1.0, max(0.0, reward + sign * 3e-8)) for sign in (-1, 0, 1, 1, -1, 0, 1, 0)]
    got = GroupAdvantage(scale=scale)([score(r) for r in noisy])
    assert got == [0.0] * 8
    assert all(math.copysign(1.0, a) == 1.0 for a in got if a is not None)


@pytest.mark.parametrize("missing", [score(FAILED), score(UNDEFINED, layout=UNDEFINED, tags=UNDEFINED)])
def test_law_2_a_failed_or_undefined_total_changes_no_siblings_advantage(missing) -> None:
    siblings = [score(1.0), score(0.0), score(0.5), score(0.0, layout=0.0)]
    alone = GroupAdvantage()(siblings)
    with_missing = GroupAdvantage()([siblings[0], missing, *siblings[1:], missing])
    assert with_missing == [alone[0], None, *alone[1:], None]

    assert GroupAdvantage()([score(1.0), missing]) == [0.0, None], "a single one has nothing to be compared with"


def test_an_undefined_primary_is_left_out_of_the_sum_not_out_of_the_group() -> None:
    undefined, wrong = score(UNDEFINED, layout=0.0, tags=0.5), score(0.0, layout=0.0, tags=0.5)
    assert undefined.total == wrong.total == pytest.approx(0.05)
    assert None not in GroupAdvantage()([undefined, score(1.0)])


def test_the_phantom_guard_silences_groups_that_differ_in_format_and_tags_only() -> None:
    phantom = [score(0.0, layout=1.0), score(0.0, layout=0.0, tags=0.25), score(UNDEFINED, layout=0.0, tags=0.0)]
    assert any(GroupAdvantage()(phantom))
    assert GroupAdvantage(phantom_guard=True)(phantom) == [0.0, 0.0, 0.0]
    mixed = [*phantom, score(1.0)]
    assert GroupAdvantage(phantom_guard=True)(mixed) == GroupAdvantage()(mixed)


def test_without_scale_advantages_keep_the_size_of_the_rewards() -> None:
    got = GroupAdvantage(scale="none")([score(1.0), score(0.0), score(0.0), score(0.0)])
    assert got == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_failed_completions_do_not_make_a_group_mixed() -> None:
    assert not has_mixed_primary([score(1.0), score(FAILED), score(1.0)])
    assert has_mixed_primary([score(1.0), score(UNDEFINED)])
