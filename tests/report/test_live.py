from __future__ import annotations

import pytest

from omnithink_pl.report.live import Pace, clock


@pytest.mark.parametrize(
    ("window", "steps", "seconds_per_step"),
    [
        (20, [9.0, 9.0, 1.0, 3.0], 2.0),  # the first two start worker processes
        (2, [1.0, 1.0, 100.0, 2.0, 4.0], 3.0),
        (20, [1.0], None),
    ],
)
def test_the_time_left_is_steps_and_evaluations_at_their_latest_pace(
    window: int, steps: list[float], seconds_per_step: float | None
) -> None:
    pace = Pace(window)
    for seconds in steps:
        pace.step_took(seconds)
    pace.evaluation_took(10.0)
    assert pace.seconds_per_step == seconds_per_step
    left = None if seconds_per_step is None else 5 * seconds_per_step + 20.0
    assert pace.left(steps=5, evaluations=2) == left


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-:--"), (5.4, "0:05"), (65, "1:05"), (7265, "2:01:05")])
def test_durations_are_shown_as_on_a_clock(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown
