from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnithink_pl.sandbox import RunOutcome, SubprocessSandbox, Verdict
from omnithink_pl.types import UnitTests
from tests.sandbox.ends import all_end

ADD = UnitTests(inputs=("1 2\n", "3 4\n"), outputs=("3", "7"))
SUM = UnitTests(
    functional="def check(f):\n    assert f([1, 2]) == 3\n    assert f([]) == 0\ncheck(Solution().total)",
    entry_point="Solution().total",
)
PRINT_SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
SOLUTION = "class Solution:\n    def total(self, xs: List[int]) -> int:\n        return sum(xs)\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SubprocessSandbox]:
    sandbox = SubprocessSandbox(workers=1, timeout=10.0, memory_mb=256, output_kb=64)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def impatient() -> Iterator[SubprocessSandbox]:
    sandbox = SubprocessSandbox(workers=1, timeout=1.0)
    yield sandbox
    sandbox.close()


def run(sandbox: SubprocessSandbox, program: str, tests: UnitTests) -> Verdict:
    return sandbox.run_all([(program, tests)])[0]


def printed(sandbox: SubprocessSandbox, program: str) -> str:
    """What a program says on standard error, which verdicts carry."""
    return run(
        sandbox, "import sys\nsys.stdout = sys.stderr\n" + program, UnitTests(inputs=("",), outputs=("",))
    ).stderr


HONEST = {
    "prints": PRINT_SUM,
    "prints no final newline": "import sys\nx = sys.stdin.read().split()\nsys.stdout.write(str(int(x[0]) + int(x[1])))",
    "reads bytes": "x = sys.stdin.buffer.readline().split(); print(int(x[0]) + int(x[1]))",
    "reads file 0": "x = open(0).read().split(); print(sum(map(int, x)))",
    "leaves by sys.exit": PRINT_SUM + "import sys\nsys.exit(0)",
    "leaves by exit": PRINT_SUM + "exit()",
    "has a main block": "def f():\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    f()",
    "recurses deeply": "sys.setrecursionlimit(10**6)\nf = lambda n: n and f(n - 1)\nf(50000)\n" + PRINT_SUM,
    "works in a thread": "def main():\n    print(sum(map(int, input().split())))\n"
    "threading.stack_size(2**26)\nthreading.Thread(target=main).start()",
    "prints at exit": "import atexit\natexit.register(lambda: print(3 if x[0] == '1' else 7))\nx = input().split()",
    "writes a file": "open('x', 'w').write(input())\nprint(sum(map(int, open('x').read().split())))",
}
HONEST_SOLUTIONS = {
    "plain": SOLUTION,
    "with a main block": SOLUTION + "if __name__ == '__main__':\n    print(Solution().total(eval(input())))",
    "prints without newline": "print('hello', end='')\n" + SOLUTION,
    "with a future import": "from __future__ import annotations\n" + SOLUTION,
    "with a dataclass": "@dataclasses.dataclass\nclass P:\n    x: 'int'\n" + SOLUTION,
    "without imports": SOLUTION.replace("sum(xs)", "reduce(operator.add, xs, 0) + len(defaultdict(list))"),
}


@pytest.mark.parametrize("program", HONEST.values(), ids=HONEST)
def test_honest_programs_pass(sandbox: SubprocessSandbox, program: str) -> None:
    verdict = run(sandbox, program, ADD)
    assert (verdict.outcome, verdict.passed_tests, verdict.total_tests) == (RunOutcome.PASSED, 2, 2), verdict.stderr


@pytest.mark.parametrize("program", HONEST_SOLUTIONS.values(), ids=HONEST_SOLUTIONS)
def test_honest_solutions_pass(sandbox: SubprocessSandbox, program: str) -> None:
    verdict = run(sandbox, program, SUM)
    assert verdict.passed, verdict.stderr


WRONG = {
    "right once": ("print(3)", RunOutcome.WRONG_ANSWER, 1),
    "a correct prefix": (PRINT_SUM + "print('more')", RunOutcome.WRONG_ANSWER, 0),
    "nothing": ("", RunOutcome.WRONG_ANSWER, 0),
    "right, but fails": (PRINT_SUM + "sys.exit(1)", RunOutcome.EXCEPTION, 0),
    "right, but dies": (PRINT_SUM + "sys.stdout.flush(); os.abort()", RunOutcome.EXCEPTION, 0),
    "raises": ("1 / 0", RunOutcome.EXCEPTION, 0),
    "is no Python": ("def", RunOutcome.EXCEPTION, 0),
    "lone surrogate": ("print('\udc80')", RunOutcome.EXCEPTION, 0),
    "hoards": ("x = [bytearray(10**6) for _ in range(10**6)]", RunOutcome.MEMORY, 0),
    "floods": ("while True: print('x' * 1000)", RunOutcome.OUTPUT_LIMIT, 0),
    "floods and catches": (
        "try:\n    while True: os.write(1, b'x' * 1000)\nexcept OSError: sys.exit(0)",
        RunOutcome.OUTPUT_LIMIT,
        0,
    ),
}


@pytest.mark.parametrize(("program", "outcome", "passed"), WRONG.values(), ids=WRONG)
def test_other_programs_fail_as_what_they_are(
    sandbox: SubprocessSandbox, program: str, outcome: RunOutcome, passed: int
) -> None:
    verdict = run(sandbox, program, ADD)
    assert (verdict.outcome, verdict.passed_tests, verdict.total_tests) == (outcome, passed, 2)


LEAVING = {
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "SystemExit in the solution": "class Solution:\n    def total(self, xs): raise SystemExit",
    "a shell": "os.execv('/bin/true', ['true'])",
    "signal": "os.kill(os.getpid(), 9)",
    "wrong": "class Solution:\n    def total(self, xs): return 1",
    "raises": "class Solution:\n    def total(self, xs): return xs[0]",
    "missing": "",
}


@pytest.mark.parametrize("program", LEAVING.values(), ids=LEAVING)
def test_leaving_before_the_asserts_are_through_does_not_pass(sandbox: SubprocessSandbox, program: str) -> None:
    verdict = run(sandbox, program, SUM)
    assert verdict.outcome in (RunOutcome.WRONG_ANSWER, RunOutcome.EXCEPTION)
    assert verdict.total_tests == 1


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "time.sleep(1000)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\nwhile True: time.sleep(1)",
    ],
    ids=["spins", "sleeps", "blocks signals"],
)
def test_endless_programs_are_killed_in_time(impatient: SubprocessSandbox, program: str) -> None:
    verdict = run(impatient, program, ADD)
    assert verdict.outcome is RunOutcome.TIMEOUT
    assert run(impatient, PRINT_SUM, ADD).passed


def test_the_time_limit_covers_all_tests_of_a_program(impatient: SubprocessSandbox) -> None:
    slow = UnitTests(inputs=("",) * 8, outputs=("",) * 8)
    verdict = run(impatient, "time.sleep(0.4)", slow)
    assert verdict.outcome is RunOutcome.TIMEOUT
    assert verdict.passed_tests < 3


def test_a_fork_bomb_goes_off_in_a_small_room(impatient: SubprocessSandbox) -> None:
    bomb = "while True:\n    try: os.fork()\n    except OSError: pass"
    assert run(impatient, bomb, ADD).outcome is RunOutcome.TIMEOUT
    assert run(impatient, PRINT_SUM, ADD).passed


def test_what_a_program_starts_ends_with_it(sandbox: SubprocessSandbox) -> None:
    daemon = (
        "if os.fork() == 0:\n    os.setsid()\n    if (pid := os.fork()) == 0:\n        time.sleep(1000)\n"
        "    print(pid)\n    sys.stdout.flush()\n    os._exit(0)\nos.wait()\n"
    )
    pid = int(printed(sandbox, daemon))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_sees_no_environment_no_open_files_and_an_empty_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    sandbox = SubprocessSandbox(workers=1, timeout=10.0)
    seen = printed(
        sandbox,
        "print(dict(os.environ), os.listdir())\n"
        "for fd in range(3, 64):\n    try: print(os.fstat(fd))\n    except OSError: pass\n",
    )
    sandbox.close()
    assert seen == "{} []\n"


def test_a_program_leaves_nothing_to_the_next_run(sandbox: SubprocessSandbox) -> None:
    twice = UnitTests(inputs=("1", "2"), outputs=("", ""))
    run(sandbox, "import builtins\nbuiltins.len = None\nopen('left', 'w').write('x')\ntyping.left = 1", twice)
    assert printed(sandbox, "print(len(os.listdir()), hasattr(typing, 'left'))") == "0 False\n"


SEARCH_OWN_MEMORY = """
found = 0
for line in open("/proc/self/maps"):
    span, rights = line.split()[:2]
    if "r" in rights and "[v" not in line:
        start, end = (int(x, 16) for x in span.split("-"))
        with open("/proc/self/mem", "rb") as memory:
            memory.seek(start)
            found += memory.read(end - start).count("elpats yrettab esroh"[::-1].encode())
print(found > 0, file=sys.stderr)
"""


@pytest.mark.parametrize("known", [False, True])
def test_a_program_finds_its_inputs_in_its_memory_but_no_expected_output(
    sandbox: SubprocessSandbox, known: bool
) -> None:
    secret = "horse battery staple"
    tests = UnitTests(inputs=(secret if known else "",), outputs=(secret,))
    program = ("kept = input()\n" if known else "") + SEARCH_OWN_MEMORY
    assert run(sandbox, program, tests).stderr == f"{known}\n"


def test_runs_are_repeatable(sandbox: SubprocessSandbox) -> None:
    program = "print({str(i) for i in range(20)}, random.random())"
    first, other = printed(sandbox, program), SubprocessSandbox(workers=1, timeout=10.0)
    second = printed(other, program)
    other.close()
    assert first == second != ""


def test_verdicts_keep_the_order_of_the_jobs() -> None:
    sandbox = SubprocessSandbox(workers=2, timeout=10.0)
    jobs = [(PRINT_SUM if i % 3 else "print(0)", ADD) for i in range(20)]
    verdicts = sandbox.run_all(jobs)
    sandbox.close()
    assert [verdict.passed for verdict in verdicts] == [bool(i % 3) for i in range(20)]


def test_a_dead_server_is_replaced_and_costs_nothing() -> None:
    sandbox = SubprocessSandbox(workers=1, timeout=10.0)
    run(sandbox, PRINT_SUM, ADD)
    os.kill(sandbox._pool._workers[0]._process.pid, signal.SIGKILL)
    assert run(sandbox, PRINT_SUM, ADD).passed
    sandbox.close()


def test_a_sandbox_that_cannot_run_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sandbox = SubprocessSandbox(workers=1)
    dies = tmp_path / "dies.py"
    dies.write_text("print('ready', flush=True)\ninput()\nraise SystemExit(1)\n")
    monkeypatch.setattr(sandbox._pool, "_command", [sys.executable, str(dies)])
    assert run(sandbox, PRINT_SUM, ADD).outcome is RunOutcome.REFUSED
    sandbox.close()


def test_close_ends_all_processes_and_may_be_called_twice() -> None:
    sandbox = SubprocessSandbox(workers=2)
    sandbox.run_all([(PRINT_SUM, ADD)] * 8)
    servers = [worker._process.pid for worker in sandbox._pool._workers]
    sandbox.close()
    sandbox.close()
    assert servers
    assert all_end(servers)


def test_no_tests_are_not_passed(sandbox: SubprocessSandbox) -> None:
    assert not run(sandbox, "", UnitTests()).passed


def test_tests_that_do_not_match_up_are_refused(sandbox: SubprocessSandbox) -> None:
    with pytest.raises(ValueError, match="2 inputs and 1 outputs"):
        run(sandbox, "", UnitTests(inputs=("1", "2"), outputs=("1",)))


@pytest.mark.parametrize("key", ["timeout", "memory_mb", "output_kb", "workers"])
def test_impossible_settings_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        SubprocessSandbox(**{key: 0})
