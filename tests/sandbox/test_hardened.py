from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.sandbox import HardenedSandbox, RunOutcome, run
from omnithink_pl.sandbox import hardened as module
from omnithink_pl.sandbox.tiers import Plan, Tier
from omnithink_pl.types import UnitTests
from tests.sandbox.ends import all_end

ADD = UnitTests(inputs=("1 2\n", "3 4\n"), outputs=("3", "7"))
SUM = UnitTests(functional="def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\ncheck(Solution().total)")
PRINT_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
SOLUTION = "class Solution:\n    def total(self, xs: List[int]) -> int:\n        return sum(xs)\n"
SLEEP = "import time\ntime.sleep(1000)"


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[HardenedSandbox]:
    sandbox = HardenedSandbox(workers=1, tier=request.param)
    yield sandbox
    sandbox.close()


def printed(sandbox: HardenedSandbox, program: str, tests: UnitTests | None = None) -> str:
    program = "import sys\nsys.stdout = sys.stderr\n" + program
    return sandbox.run(program, tests or UnitTests(inputs=("",), outputs=("",))).stderr


def boxes(sandbox: HardenedSandbox) -> list[int]:
    found = [box for pair in sandbox._pairs for box in (pair._program, pair._judge) if box is not None]
    return [box._process.pid for box in found]


def unsealed(workers: int = 1) -> HardenedSandbox:
    sandbox = HardenedSandbox(workers=workers)
    sandbox._plan = Plan(Tier.UNSAFE)
    return sandbox


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
def test_no_expected_output_is_in_a_programs_memory(known: bool) -> None:
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


def test_a_lost_box_is_replaced_and_costs_nothing(sandbox: HardenedSandbox) -> None:
    sandbox.run(SOLUTION, SUM)
    for box in (sandbox._pairs[0]._program, sandbox._pairs[0]._judge):
        assert box is not None
        box.hang_up()
    assert sandbox.run(SOLUTION, SUM).passed
    assert sandbox.run(PRINT_SUM, ADD).passed


def test_a_sandbox_whose_boxes_keep_dying_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = HardenedSandbox(workers=1)
    assert sandbox.tier
    monkeypatch.setattr(module, "Box", _dies)
    verdict = sandbox.run(PRINT_SUM, ADD)
    sandbox.close()
    assert verdict.outcome is RunOutcome.REFUSED
    assert "no luck" in verdict.stderr


def _dies(*_: object) -> object:
    raise module.BoxLost("no luck")


def test_cancelling_ends_what_runs_and_leaves_it_usable() -> None:
    sandbox = HardenedSandbox(workers=2, timeout=100.0)
    verdicts: list[RunOutcome] = []
    jobs = [(SLEEP, ADD), (f"{SLEEP}\ndef f(): pass", UnitTests(functional="f()"))]
    thread = threading.Thread(target=lambda: verdicts.extend(v.outcome for v in sandbox.run_all(jobs)))
    thread.start()
    while len(boxes(sandbox)) < 3:
        time.sleep(0.01)
    before = boxes(sandbox)
    sandbox.cancel()
    thread.join(30)
    assert verdicts == [RunOutcome.REFUSED] * 2
    assert all_end(before)
    assert sandbox.run(PRINT_SUM, ADD).passed
    sandbox.close()


def test_an_interruption_ends_what_runs() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    sandbox = HardenedSandbox(workers=1, timeout=100.0)
    assert sandbox.tier
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run_all([(SLEEP, ADD)] * 3)
    signal.signal(signal.SIGALRM, previous)
    assert boxes(sandbox) == []
    assert sandbox.run(PRINT_SUM, ADD).passed
    sandbox.close()


PARENT = """
import os, signal, sys, threading
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests
sandbox = HardenedSandbox(workers=1, tier={tier!r}, timeout=100.0)
sandbox.run("print(1)", UnitTests(inputs=("",), outputs=("1",)))
print(sandbox._pairs[0]._program._process.pid, flush=True)
if {busy}:
    threading.Thread(target=sandbox.run, args=({sleep!r}, {{"inputs": [""], "outputs": [""]}}), daemon=True).start()
{end}
"""


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"])
@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_boxes_end_with_their_parent_however_it_ends(tier: str, end: str, busy: bool) -> None:
    program = PARENT.format(tier=tier, end=end, busy=busy, sleep=SLEEP)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert all_end([int(done.stdout)])


FORKED = """
import os
from omnithink_pl.sandbox import HardenedSandbox
sandbox = HardenedSandbox(workers=1)
tests = {"inputs": ["1"] * 20, "outputs": ["1"] * 20}
passed = [sandbox.run("print(input())", tests).passed]
child = os.fork()
passed += [sandbox.run("print(input())", tests).passed for _ in range(3)]
print(passed, flush=True)
if child:
    os.waitpid(child, 0)
    print(sandbox.run("print(input())", tests).passed, flush=True)
"""


def test_a_forked_copy_of_the_parent_has_boxes_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True, True, True]\n" * 2 + "True\n"
    assert done.stderr == ""


def test_close_ends_all_boxes_and_may_be_called_twice(sandbox: HardenedSandbox) -> None:
    sandbox.run(SOLUTION, SUM)
    pids = boxes(sandbox)
    sandbox.close()
    sandbox.close()
    assert len(pids) == 2
    assert all_end(pids)


def test_boxes_leave_no_open_files() -> None:
    sandbox = HardenedSandbox(workers=1)
    sandbox.run(SOLUTION, SUM)
    sandbox.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        sandbox.run(SOLUTION, SUM)
        sandbox.run("print(1)", ADD)
        sandbox.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_where_nothing_seals_no_program_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing", lambda plan: f"no {plan.tier.value} today")
    with pytest.raises(RuntimeError, match=r"no bubblewrap today.*no landlock today.*apt-get install bubblewrap"):
        HardenedSandbox().run(PRINT_SUM, ADD)


def test_allow_unsafe_is_loud_and_runs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "missing", lambda plan: "none today")
    sandbox = HardenedSandbox(workers=1, allow_unsafe=True)
    passed = [sandbox.run(PRINT_SUM, ADD).passed, sandbox.run(SOLUTION, SUM).passed]
    sandbox.close()
    assert passed == [True, True]
    assert [record.levelno for record in caplog.records if "UNSAFE" in record.message] == [logging.CRITICAL]


def test_the_second_choice_is_taken_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "missing", lambda plan: "none" if plan.tier is Tier.BUBBLEWRAP else "")
    sandbox = HardenedSandbox(workers=1)
    tiers = [sandbox.tier, sandbox.tier]
    sandbox.close()
    assert tiers == [Tier.LANDLOCK] * 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_tier_that_leaks_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "plans", lambda tier: [Plan(Tier.UNSAFE)])
    with pytest.raises(RuntimeError, match="reads files of the host"):
        HardenedSandbox(workers=1).run(PRINT_SUM, ADD)


def test_a_tier_whose_boxes_do_not_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Box", _dies)
    with pytest.raises(RuntimeError, match="it does not start"):
        HardenedSandbox(workers=1).run(PRINT_SUM, ADD)


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
    module_sandbox = sys.modules["omnithink_pl.sandbox.shared"].default_sandbox()
    module_sandbox.close()
