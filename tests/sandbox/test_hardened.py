"""The verdict of a sandbox on a program, and what it measures of its own speed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from omnithink_pl.rewards import CodeReward
from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, Verdict, hardened, run
from omnithink_pl.sandbox.hardened import Throughput
from omnithink_pl.sandbox.tiers import Plan, Tier
from omnithink_pl.types import UnitTests
from tests.rewards.groups import SayingSandbox, answered, group
from tests.sandbox.helpers import ADD, PRINT_SUM, SOLUTION, SUM


def printed(sandbox: HardenedSandbox, program: str, tests: UnitTests | None = None) -> str:
    program = "import sys\nsys.stdout = sys.stderr\n" + program
    return sandbox.run(program, tests or UnitTests(inputs=("",), outputs=("",))).stderr


@pytest.mark.parametrize(
    ("program", "tests", "outcome", "passed", "total", "stderr"),
    [
        (PRINT_SUM, ADD, RunOutcome.PASSED, 2, 2, ""),
        ("print(3)\nimport sys\nprint('x', file=sys.stderr)", ADD, RunOutcome.WRONG_ANSWER, 1, 2, "x\n"),
        ("print('a')", UnitTests(inputs=("", "", ""), outputs=("a", "b", "a")), RunOutcome.WRONG_ANSWER, 1, 3, ""),
        (SOLUTION, SUM, RunOutcome.PASSED, 1, 1, ""),
        (SOLUTION.replace("sum", "len"), SUM, RunOutcome.WRONG_ANSWER, 0, 1, "AssertionError\n"),
    ],
)
def test_a_verdict_tells_all(
    sandbox: HardenedSandbox, program: str, tests: UnitTests, outcome: RunOutcome, passed: int, total: int, stderr: str
) -> None:
    verdict = sandbox.run(program, tests)
    assert (verdict.outcome, verdict.passed_tests, verdict.total_tests) == (outcome, passed, total)
    assert verdict.passed == (outcome is RunOutcome.PASSED)
    assert verdict.stderr.endswith(stderr)
    assert 0 < verdict.seconds < 60


def test_errors_name_the_line_of_the_program_and_are_short(sandbox: HardenedSandbox) -> None:
    verdict = sandbox.run("x = 1\nraise ValueError('told you')", ADD)
    assert verdict.outcome is RunOutcome.EXCEPTION
    assert 'File "program.py", line 2' in verdict.stderr
    assert verdict.stderr.endswith("ValueError: told you\n")
    assert len(printed(sandbox, "print('x' * 100000)")) <= 2000


def test_runs_are_repeatable(sandbox: HardenedSandbox) -> None:
    program = "import random\nprint({str(i) for i in range(20)}, random.random())"
    assert printed(sandbox, program) == printed(sandbox, program) != ""


def test_verdicts_keep_the_order_of_the_jobs_and_no_jobs_start_nothing() -> None:
    sandbox = HardenedSandbox(workers=2)
    assert sandbox.run_all([]) == []
    assert sandbox._plan is None
    jobs = [(PRINT_SUM if i % 3 else "print(0)", ADD) for i in range(20)]
    verdicts = sandbox.run_all(jobs)
    sandbox.close()
    assert [verdict.passed for verdict in verdicts] == [bool(i % 3) for i in range(20)]
    assert sandbox.throughput.programs == 20
    assert sandbox.throughput.outcomes == {"passed": 13, "wrong answer": 7}


def test_several_threads_may_use_it(sandbox: HardenedSandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert all(verdict.passed for verdict in threads.map(sandbox.run, [PRINT_SUM] * 8, [ADD] * 8))


SEARCH_OWN_MEMORY = """
found = 0
for line in open("/proc/self/maps"):
    span, rights = line.split()[:2]
    if "r" in rights and "[v" not in line:
        start, end = (int(x, 16) for x in span.split("-"))
        with open("/proc/self/mem", "rb") as memory:
            memory.seek(start)
            found += memory.read(end - start).count("elpats yrettab esroh"[::-1].encode())
print(found > 0)
"""
SECRET = "horse battery staple"


@pytest.fixture
def unsealed() -> Iterator[HardenedSandbox]:
    """A sandbox in which a program can look into its own memory."""
    sandbox = HardenedSandbox(workers=1)
    sandbox._plan = Plan(Tier.UNSAFE)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("known", [False, True])
def test_law_10_no_expected_output_is_in_a_programs_memory(unsealed: HardenedSandbox, known: bool) -> None:
    tests = UnitTests(inputs=(SECRET if known else "",), outputs=(SECRET,))
    program = ("kept = input()\n" if known else "") + SEARCH_OWN_MEMORY
    assert printed(unsealed, program, tests) == f"{known}\n"


def test_law_10_no_input_or_output_of_another_program_is_in_a_programs_memory(unsealed: HardenedSandbox) -> None:
    for _ in range(5):
        unsealed.run(f"x = '{SECRET}'\nprint(input())", UnitTests(inputs=(SECRET,), outputs=(SECRET,)))
        unsealed.run(f"def f(x): return '{SECRET}'", UnitTests(functional=f"assert f('{SECRET}') == '{SECRET}'"))
    assert printed(unsealed, SEARCH_OWN_MEMORY) == "False\n"


@pytest.mark.parametrize(
    ("key", "value"), [("timeout", 0), ("memory_mb", 0), ("output_kb", 0), ("workers", 0), ("tier", "firejail")]
)
def test_impossible_settings_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}: '?{value}"):
        HardenedSandbox(**{key: value})  # type: ignore[arg-type]


def test_run_takes_the_json_of_a_data_set() -> None:
    assert run(PRINT_SUM, json.dumps({"inputs": list(ADD.inputs), "outputs": list(ADD.outputs)})).passed
    assert run(SOLUTION, {"functional": SUM.functional}).passed
    assert not run("", {"functional": SUM.functional}).passed
    hardened.default_sandbox().close()


PASSED, FAILED = Verdict(RunOutcome.PASSED, 5, 5), Verdict(RunOutcome.WRONG_ANSWER, 2, 5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as its only element."""
    now = [100.0]
    monkeypatch.setattr(hardened.time, "monotonic", lambda: now[0])
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
    with throughput.working(since=105.0):  # without a verdict it does not count
        clock[0] += 1
    assert throughput.metrics() == {}
    assert throughput.programs == 2


def test_the_code_reward_reports_the_sandboxs_metrics_if_it_measures_any() -> None:
    sandbox = HardenedSandbox(workers=1)
    reward = CodeReward(sandbox)
    groups = [group(UnitTests(inputs=("",), outputs=("1",)), answered("print(1)"), answered("print(2)"))]
    for _ in range(2):
        reward.score(groups)
    measured = reward.metrics()
    names = ("programs_per_second", "tests_per_second", "busy_workers", "wait_seconds")
    assert measured.keys() == {f"sandbox/{name}" for name in names}
    assert 0 < measured["sandbox/busy_workers"] <= 1.0
    assert measured["sandbox/wait_seconds"] > 0, "one worker, two programs: the second waited"
    assert sandbox.throughput.programs == 2, "the second time their verdicts were cached"
    reward.score(groups)
    assert reward.metrics() == {}
    reward.close()
    assert CodeReward(SayingSandbox()).metrics() == {}
