"""The verdict of a sandbox on a program, and what it measures of its own speed."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

import pytest

from omnithink_pl.rewards import CodeReward
from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, Verdict, hardened, run
from omnithink_pl.sandbox.hardened import Throughput
from omnithink_pl.types import Completion, Example, Group, UnitTests
from tests.sandbox.helpers import ADD, PRINT_SUM, SOLUTION, SUM, unsealed


def printed(sandbox: HardenedSandbox, program: str, tests: UnitTests | None = None) -> str:
    program = "import sys\nsys.stdout = sys.stderr\n" + program
    return sandbox.run(program, tests or UnitTests(inputs=("",), outputs=("",))).stderr


def test_a_verdict_tells_all(sandbox: HardenedSandbox) -> None:
    right, wrong = sandbox.run(PRINT_SUM, ADD), sandbox.run("print(3)\nimport sys\nprint('x', file=sys.stderr)", ADD)
    assert (right.passed, right.outcome, right.passed_tests, right.total_tests) == (True, RunOutcome.PASSED, 2, 2)
    assert (wrong.passed, wrong.outcome, wrong.passed_tests) == (False, RunOutcome.WRONG_ANSWER, 1)
    assert wrong.stderr == "x\n"
    assert 0 < right.seconds < 60


def test_functional_tests_are_one_test(sandbox: HardenedSandbox) -> None:
    right, wrong = sandbox.run(SOLUTION, SUM), sandbox.run(SOLUTION.replace("sum", "max"), SUM)
    assert (right.outcome, right.passed_tests, right.total_tests) == (RunOutcome.PASSED, 1, 1)
    assert (wrong.passed, wrong.passed_tests, wrong.total_tests) == (False, 0, 1)


def test_it_ends_at_the_first_failing_test(sandbox: HardenedSandbox) -> None:
    assert sandbox.run("print('a')", UnitTests(inputs=("", "", ""), outputs=("a", "b", "a"))).passed_tests == 1


def test_errors_name_the_line_of_the_program_and_are_short(sandbox: HardenedSandbox) -> None:
    verdict = sandbox.run("x = 1\nraise ValueError('told you')", ADD)
    assert verdict.outcome is RunOutcome.EXCEPTION
    assert 'File "program.py", line 2' in verdict.stderr
    assert verdict.stderr.endswith("ValueError: told you\n")
    assert len(printed(sandbox, "print('x' * 100000)")) <= 2000


def test_runs_are_repeatable(sandbox: HardenedSandbox) -> None:
    program = "import random\nprint({str(i) for i in range(20)}, random.random())"
    assert printed(sandbox, program) == printed(sandbox, program) != ""


def test_verdicts_keep_the_order_of_the_jobs() -> None:
    sandbox = HardenedSandbox(workers=2)
    jobs = [(PRINT_SUM if i % 3 else "print(0)", ADD) for i in range(20)]
    verdicts = sandbox.run_all(jobs)
    sandbox.close()
    assert [verdict.passed for verdict in verdicts] == [bool(i % 3) for i in range(20)]
    assert sandbox.throughput.programs == 20
    assert sandbox.throughput.outcomes == {"passed": 13, "wrong answer": 7}
    assert sandbox.throughput.seconds > 0


def test_no_jobs_start_nothing() -> None:
    sandbox = HardenedSandbox(workers=1)
    assert sandbox.run_all([]) == []
    assert sandbox._plan is None


def test_several_threads_may_use_it(sandbox: HardenedSandbox) -> None:
    verdicts: list[bool] = []
    threads = [threading.Thread(target=lambda: verdicts.append(sandbox.run(PRINT_SUM, ADD).passed)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 8


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


@pytest.mark.parametrize("known", [False, True])
def test_law_10_no_expected_output_is_in_a_programs_memory(known: bool) -> None:
    sandbox = unsealed()  # elsewhere it cannot even look
    tests = UnitTests(inputs=(SECRET if known else "",), outputs=(SECRET,))
    seen = printed(sandbox, ("kept = input()\n" if known else "") + SEARCH_OWN_MEMORY, tests)
    sandbox.close()
    assert seen == f"{known}\n"


def test_law_10_no_input_or_output_of_another_program_is_in_a_programs_memory() -> None:
    sandbox = unsealed()
    for _ in range(5):
        sandbox.run(f"x = '{SECRET}'\nprint(input())", UnitTests(inputs=(SECRET,), outputs=(SECRET,)))
        sandbox.run(f"def f(x): return '{SECRET}'", UnitTests(functional=f"assert f('{SECRET}') == '{SECRET}'"))
    seen = printed(sandbox, SEARCH_OWN_MEMORY)
    sandbox.close()
    assert seen == "False\n"


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


def test_a_program_without_a_verdict_is_not_counted(clock: list[float]) -> None:
    throughput = Throughput()
    with throughput.working(since=100.0):
        clock[0] += 1
    assert throughput.metrics() == {}
    assert throughput.programs == 0


def test_the_code_reward_reports_the_sandboxs_metrics() -> None:
    sandbox = HardenedSandbox(workers=1)
    reward = CodeReward(sandbox)
    for _ in range(2):
        reward.score(groups("print(1)", "print(2)"))
    measured = reward.metrics()
    names = ("programs_per_second", "tests_per_second", "busy_workers", "wait_seconds")
    assert measured.keys() == {f"sandbox/{name}" for name in names}
    assert 0 < measured["sandbox/busy_workers"] <= 1.0
    assert measured["sandbox/wait_seconds"] > 0, "one worker, two programs: the second waited"
    assert sandbox.throughput.programs == 2, "the second time their verdicts were cached"
    reward.score(groups("print(1)", "print(2)"))
    assert reward.metrics() == {}
    reward.close()


def test_a_sandbox_need_not_measure_anything() -> None:
    reward = CodeReward(Plain())
    reward.score(groups("print(1)"))
    assert reward.metrics() == {}


class Plain:
    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        return [PASSED for _ in jobs]

    def close(self) -> None:
        pass


def groups(*programs: str) -> list[Group]:
    example = Example("code", "1", "Print 1.", UnitTests(inputs=("",), outputs=("1",)))
    completions = [Completion((1,), (0.0,), f"<answer>{program}</answer>", "stop") for program in programs]
    return [Group(example, (1,), tuple(completions))]
