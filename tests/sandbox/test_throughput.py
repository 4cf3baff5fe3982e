"""What a sandbox says about its own speed, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omnithink_pl.rewards import CodeReward
from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, Verdict
from omnithink_pl.sandbox import hardened as module
from omnithink_pl.sandbox.hardened import Throughput
from omnithink_pl.types import Completion, Example, Group, UnitTests

PASSED, FAILED = Verdict(RunOutcome.PASSED, 5, 5), Verdict(RunOutcome.WRONG_ANSWER, 2, 5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as its only element."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_two_programs_side_by_side_and_a_pause(clock: list[float]) -> None:
    throughput = Throughput()
    with throughput.working(since=99.0) as first:
        clock[0] += 1
        with throughput.working(since=99.0) as second:
            clock[0] += 2
            second.append(FAILED)
        clock[0] += 1
        first.append(PASSED)
    clock[0] += 50  # nothing runs: the trainer is busy
    assert throughput.metrics() == {
        "programs_per_second": 2 / 4,
        "tests_per_second": (5 + 3) / 4,  # the failing test ran too
        "busy_workers": (4 + 2) / 4,
        "wait_seconds": (1 + 2) / 2,
    }
    assert throughput.metrics() == {}, "each call begins anew"
    assert (throughput.programs, throughput.seconds) == (2, 6.0)
    assert throughput.outcomes == {"passed": 1, "wrong answer": 1}


def test_time_is_counted_once_where_a_program_outlasts_a_call(clock: list[float]) -> None:
    throughput = Throughput()
    with throughput.working(since=100.0) as long:
        with throughput.working(since=100.0) as short:
            clock[0] += 3
            short.append(PASSED)
        assert throughput.metrics()["programs_per_second"] == 1 / 3
        clock[0] += 2
        long.append(PASSED)
    assert throughput.metrics()["programs_per_second"] == 1 / 2


def test_a_program_without_a_verdict_is_none(clock: list[float]) -> None:
    throughput = Throughput()
    with pytest.raises(ValueError, match="unusable"):
        broken(throughput)
    clock[0] += 1
    assert throughput.metrics() == {}
    assert throughput.programs == 0


def test_the_code_reward_hands_it_on() -> None:
    sandbox = HardenedSandbox(workers=1)
    reward = CodeReward(sandbox)
    for _ in range(2):
        reward.score(groups("print(1)", "print(2)"))
    measured = reward.metrics()
    assert measured.keys() == {f"sandbox/{name}" for name in NAMES}
    assert 0 < measured["sandbox/busy_workers"] <= 1.0
    assert measured["sandbox/wait_seconds"] > 0, "one worker, two programs: the second waited"
    assert sandbox.throughput.programs == 2, "the second time their verdicts were remembered"
    reward.score(groups("print(1)", "print(2)"))
    assert reward.metrics() == {}
    reward.close()


def test_a_sandbox_that_measures_nothing_is_none_the_worse() -> None:
    reward = CodeReward(Plain())
    reward.score(groups("print(1)"))
    assert reward.metrics() == {}


def broken(throughput: Throughput) -> None:
    with throughput.working(since=100.0):
        raise ValueError("unusable")


NAMES = ("programs_per_second", "tests_per_second", "busy_workers", "wait_seconds")


class Plain:
    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        return [PASSED for _ in jobs]

    def close(self) -> None:
        pass


def groups(*programs: str) -> list[Group]:
    example = Example("code", "1", "Print 1.", UnitTests(inputs=("",), outputs=("1",)))
    completions = [Completion((1,), (0.0,), f"<answer>{program}</answer>", "stop") for program in programs]
    return [Group(example, (1,), tuple(completions))]
