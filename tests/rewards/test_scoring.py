"""Seconds in which rewards were at work."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards.scoring import covered


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 2.0)], 1.0),
        ([(1.0, 3.0), (2.0, 4.0)], 3.0),
        ([(5.0, 6.0), (1.0, 2.0)], 2.0),
        ([(1.0, 5.0), (2.0, 3.0), (4.0, 6.0)], 5.0),
        ([(9.0, 12.0), (11.0, 20.0)], 1.0),
    ],
)
def test_time_that_several_share_counts_once_and_none_after_the_end(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    assert covered(spans, until=10.0) == pytest.approx(seconds)
