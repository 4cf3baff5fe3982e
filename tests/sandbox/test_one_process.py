"""Programs beside their tests: what passes, what does not, and that somebody must say where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox import RunOutcome
from omnithink_pl.sandbox.one_process import OneProcess
from omnithink_pl.types import UnitTests

TESTS = UnitTests(functional="assert f(2) == 4\nassert isinstance(g, type(f))", entry_point="f")
RIGHT = "def f(x):\n    return 2 * x\ng = f"


@pytest.fixture
def sandbox() -> OneProcess:
    return OneProcess(inside_container=True, timeout=20, memory_mb=2048)


def outcome(sandbox: OneProcess, program: str, tests: UnitTests = TESTS) -> RunOutcome:
    return sandbox.run_all([(program, tests)])[0].outcome


@pytest.mark.parametrize(
    "program", ["def f(x):\n    return x\ng = f", "import sys; sys.exit(0)", "import os; os._exit(0)", "f ="]
)
def test_a_wrong_program_and_one_that_ends_itself_do_not_pass(sandbox: OneProcess, program: str) -> None:
    assert outcome(sandbox, program) is RunOutcome.EXCEPTION


def test_it_has_no_keys_of_ours_and_leaves_no_file(
    sandbox: OneProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.chdir(tmp_path)
    program = f"{RIGHT}\nimport os\nassert 'OPENAI_API_KEY' not in os.environ\nopen('left', 'w').write('x')"
    assert outcome(sandbox, program) is RunOutcome.PASSED
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_end_is_ended(sandbox: OneProcess) -> None:
    sandbox.timeout = 0.5
    assert outcome(sandbox, "while True: pass") is RunOutcome.TIMEOUT


def test_live_objects_reach_the_tests_and_a_missing_library_is_no_verdict(sandbox: OneProcess) -> None:
    assert outcome(sandbox, RIGHT, replace(TESTS, packages=("json", "numpy"))) is RunOutcome.PASSED
    verdict = sandbox.run_all([(RIGHT, replace(TESTS, packages=("numpy", "no_such_library")))])[0]
    assert (verdict.outcome, verdict.stderr) == (RunOutcome.REFUSED, "no package no_such_library in this container")


def test_nothing_is_run_unless_the_container_is_stated() -> None:
    with pytest.raises(BadInput, match="inside_container: true"):
        OneProcess()
