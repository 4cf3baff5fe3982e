"""Rewards that fail: counted by cause, tolerated up to a rate, then the end of the run or of the task for a while."""

from __future__ import annotations

import pytest

from omnithink_pl.errors import BadInput, RewardFailure
from omnithink_pl.grpo.advantage import ScoredGroup
from omnithink_pl.grpo.failures import FailureMonitor, FailurePolicy, cause, causes
from omnithink_pl.types import Example, Group, Outcome
from tests.scores import score

GOOD, BAD = score(1.0), score(Outcome.failed("judge timed out: no reply within 60 s"))
BOTH = ["qa", "writing"]


def batch(monitor: FailureMonitor, step: int, **failed: int) -> None:
    """Four completions of each task, of which so many failed."""
    scores = {task: (BAD,) * count + (GOOD,) * (4 - count) for task, count in failed.items()}
    groups = [ScoredGroup(Group(Example(task, "row-1", "q", "r"), (), ()), row, ()) for task, row in scores.items()]
    monitor.observe(groups, step)


def admitted(monitor: FailureMonitor, step: int, stage: list[str] = BOTH) -> list[str]:
    return [e.task for e in monitor.admit([Example(task, "row-1", "q", "r") for task in stage], step, stage)]


def test_failures_up_to_the_rate_are_tolerated_and_beyond_it_end_the_run_with_the_cause() -> None:
    monitor = FailureMonitor(FailurePolicy(max_rate=0.5, window=2))
    for step in range(20):
        batch(monitor, step, writing=2)
    with pytest.raises(
        RewardFailure, match=r"writing: 5 of 8 rewards of the last 2 batches .* judge timed out: no reply within 60 s"
    ):
        batch(monitor, 20, writing=3)


def test_the_rate_is_that_of_the_task_however_small_its_share_of_the_batch() -> None:
    monitor = FailureMonitor(FailurePolicy(max_rate=0.5, window=4))
    with pytest.raises(RewardFailure, match=r"^writing: 4 of 4"):
        batch(monitor, 0, qa=0, code=0, math=0, writing=4)


def test_a_passing_outage_within_the_window_is_ridden_out() -> None:
    monitor = FailureMonitor(FailurePolicy(max_rate=0.2, window=5))
    for step in range(10):
        batch(monitor, step, writing=4 if step in {4, 9} else 0)


def test_the_batch_that_ends_a_run_is_met_again_and_not_counted_twice() -> None:
    monitor = FailureMonitor(FailurePolicy(max_rate=0.5, window=2))
    batch(monitor, 0, writing=1)
    before = monitor.state_dict()
    with pytest.raises(RewardFailure):
        batch(monitor, 1, writing=4)
    assert monitor.state_dict() == before


def test_a_task_is_paused_then_tried_again_while_the_others_go_on() -> None:
    monitor = FailureMonitor(FailurePolicy(max_rate=0.5, window=2, on_outage="pause", retry_after=3))
    assert admitted(monitor, 0) == ["qa", "writing"]
    batch(monitor, 0, qa=0, writing=4)
    assert monitor.metrics() == {"train/paused_tasks": 1.0}
    for step in (1, 2, 3):
        assert admitted(monitor, step) == ["qa"]
    assert admitted(monitor, 4) == ["qa", "writing"]
    assert monitor.metrics() == {"train/paused_tasks": 0.0}
    batch(monitor, 4, qa=0, writing=1)  # what failed before the pause does not count any more
    assert admitted(monitor, 5) == ["qa", "writing"]
    batch(monitor, 5, writing=4)
    with pytest.raises(RewardFailure, match=r"all tasks of the stage \(writing\) are paused, .* judge timed out"):
        admitted(monitor, 6, ["writing"])


def test_its_state_survives_a_checkpoint() -> None:
    policy = FailurePolicy(max_rate=0.5, window=3, on_outage="pause", retry_after=3)
    one, other = FailureMonitor(policy), FailureMonitor(policy)
    batch(one, 0, qa=2, writing=4)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
    for monitor in (one, other):
        assert admitted(monitor, 1) == ["qa"]
        batch(monitor, 1, qa=2)
    assert other.state_dict() == one.state_dict()


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("judge timed out: no reply within 60 s, 8 attempts", "judge_timed_out"),
        ("sandbox refused: Traceback (most recent call last) ...", "sandbox_refused"),
        ("verifier died", "verifier_died"),
        ("HTTP 503", "http"),
        ("déjà vu/§!", "d_j_vu"),
        ("", "other"),
        ("x" * 100, "x" * 40),
    ],
)
def test_a_cause_is_a_short_name_without_details(reason: str, name: str) -> None:
    assert cause(reason) == name


def test_causes_are_counted_by_completion_and_there_are_never_many() -> None:
    failed = Outcome.failed("worker died")
    assert causes([GOOD, BAD, BAD, score(failed, layout=failed)]) == {"judge_timed_out": 2, "worker_died": 1}
    many = causes([score(Outcome.failed(letter * 3)) for letter in "abcdefghijklmnop"])
    assert (len(many), sum(many.values()), many["other"]) == (9, 16, 8)


@pytest.mark.parametrize("settings", [{"max_rate": 1.5}, {"window": 0}, {"retry_after": 0}, {"reward_timeout": 0.0}])
def test_impossible_settings_are_refused_by_name(settings: dict[str, float]) -> None:
    (key,) = settings
    with pytest.raises(BadInput, match=rf"model\.failures\.{key} is"):
        FailurePolicy(**settings)
