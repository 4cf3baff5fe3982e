from __future__ import annotations

import pytest

from omnithink_pl.report.live import Pace, clock


def test_the_time_left_is_steps_and_evaluations_at_their_pace() -> None:
    pace = Pace()
    for seconds in (9.0, 9.0, 1.0, 3.0):  # the first two start worker processes
        pace.step_took(seconds)
    pace.evaluation_took(10.0)
    assert pace.seconds_per_step == 2.0
    assert pace.left(steps=5, evaluations=2) == 30.0


def test_nothing_is_promised_before_the_pace_is_known() -> None:
    pace = Pace()
    pace.step_took(1.0)
    assert pace.left(steps=5, evaluations=1) is None


def test_the_pace_follows_the_last_steps() -> None:
    pace = Pace(window=2)
    for seconds in (1.0, 1.0, 100.0, 2.0, 4.0):
        pace.step_took(seconds)
    assert pace.seconds_per_step == 3.0


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-:--"), (5.4, "0:05"), (65, "1:05"), (7265, "2:01:05")])
def test_durations_are_shown_as_on_a_clock(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown
