"""What a sandbox says about a program."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, run
from omnithink_pl.types import UnitTests
from tests.sandbox.jobs import ADD, PRINT_SUM, SOLUTION, SUM, unsealed


def printed(sandbox: HardenedSandbox, program: str, tests: UnitTests | None = None) -> str:
    program = "import sys\nsys.stdout = sys.stderr\n" + program
    return sandbox.run(program, tests or UnitTests(inputs=("",), outputs=("",))).stderr


def test_a_verdict_tells_all(sandbox: HardenedSandbox) -> None:
    right, wrong = sandbox.run(PRINT_SUM, ADD), sandbox.run("print(3)\nimport sys\nprint('x', file=sys.stderr)", ADD)
    assert (right.passed, right.outcome, right.passed_tests, right.total_tests) == (True, RunOutcome.PASSED, 2, 2)
    assert (wrong.passed, wrong.outcome, wrong.passed_tests, wrong.stderr) == (
        False,
        RunOutcome.WRONG_ANSWER,
        1,
        "x\n",
    )
    assert 0 < right.seconds < 60


def test_functional_tests_are_one_test(sandbox: HardenedSandbox) -> None:
    right, wrong = sandbox.run(SOLUTION, SUM), sandbox.run(SOLUTION.replace("sum", "max"), SUM)
    assert (right.outcome, right.passed_tests, right.total_tests) == (RunOutcome.PASSED, 1, 1)
    assert (wrong.passed, wrong.passed_tests, wrong.total_tests) == (False, 0, 1)


def test_it_ends_at_the_first_failing_test() -> None:
    tests = UnitTests(inputs=("", "", ""), outputs=("a", "b", "a"))
    sandbox = HardenedSandbox(workers=1)
    verdict = sandbox.run("import time\nprint('a')", tests)
    sandbox.close()
    assert verdict.passed_tests == 1


def test_standard_error_is_short(sandbox: HardenedSandbox) -> None:
    assert len(printed(sandbox, "print('x' * 100000)")) <= 2000


def test_errors_name_the_line_of_the_program(sandbox: HardenedSandbox) -> None:
    verdict = sandbox.run("x = 1\nraise ValueError('told you')", ADD)
    assert verdict.outcome is RunOutcome.EXCEPTION
    assert 'File "program.py", line 2' in verdict.stderr
    assert verdict.stderr.endswith("ValueError: told you\n")


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


@pytest.mark.parametrize("known", [False, True])
def test_law_10_no_expected_output_is_in_a_programs_memory(known: bool) -> None:
    sandbox = unsealed()  # elsewhere it cannot even look
    secret = "horse battery staple"
    tests = UnitTests(inputs=(secret if known else "",), outputs=(secret,))
    seen = printed(sandbox, ("kept = input()\n" if known else "") + SEARCH_OWN_MEMORY, tests)
    sandbox.close()
    assert seen == f"{known}\n"


def test_what_others_were_given_and_printed_is_not_in_a_programs_memory() -> None:
    sandbox = unsealed()
    secret = "horse battery staple"
    for _ in range(5):
        sandbox.run(f"x = '{secret}'\nprint(input())", UnitTests(inputs=(secret,), outputs=(secret,)))
        sandbox.run(f"def f(x): return '{secret}'", UnitTests(functional=f"assert f('{secret}') == '{secret}'"))
    seen = printed(sandbox, SEARCH_OWN_MEMORY)
    sandbox.close()
    assert seen == "False\n"


@pytest.mark.parametrize("key", ["timeout", "memory_mb", "output_kb", "workers"])
def test_impossible_settings_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        HardenedSandbox(**{key: 0})


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(ValueError, match="firejail"):
        HardenedSandbox(tier="firejail")  # type: ignore[arg-type]


def test_run_takes_the_json_of_a_data_set() -> None:
    assert run(PRINT_SUM, json.dumps({"inputs": list(ADD.inputs), "outputs": list(ADD.outputs)})).passed
    assert run(SOLUTION, {"functional": SUM.functional}).passed
    assert not run("", {"functional": SUM.functional}).passed
    module_sandbox = sys.modules["omnithink_pl.sandbox.hardened"].default_sandbox()
    module_sandbox.close()
