"""When a stage has stopped getting better."""

from __future__ import annotations

import pytest

from omnithink_pl.curriculum.schedulers import best_place, has_plateaued


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.1], False),
        ([0.1, 0.1], False),
        ([0.1, 0.1, 0.1], True),
        ([0.1, 0.3, 0.2, 0.25], True),
        ([0.1, 0.3, 0.2, 0.31], False),
        ([0.3, 0.2, 0.4, 0.1], False),
        ([], False),
    ],
)
def test_it_ends_after_so_many_scores_without_a_better_one(scores: list[float], ends: bool) -> None:
    assert has_plateaued(scores, patience=2) is ends


def test_a_rise_in_steps_too_small_to_count_ends_it_but_together_they_count() -> None:
    assert has_plateaued([0.10, 0.11, 0.12], patience=2, min_delta=0.03)
    assert not has_plateaued([0.10, 0.12, 0.14], patience=2, min_delta=0.03)


def test_the_best_is_the_first_that_was_not_bettered() -> None:
    assert best_place([0.1, 0.4, 0.4, 0.3]) == 1
    assert best_place([0.1, 0.4, 0.45, 0.3], min_delta=0.1) == 1
