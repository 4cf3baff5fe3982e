"""Programs beside their tests: what passes, what does not, and that somebody must say where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox import RunOutcome, Verdict
from omnithink_pl.sandbox.one_process import OneProcess
from omnithink_pl.types import UnitTests

TESTS = UnitTests(functional="assert f(2) == 4\nassert isinstance(g, type(f))", entry_point="f")
RIGHT = "def f(x):\n    return 2 * x\ng = f"


def run(program: str, tests: UnitTests = TESTS, timeout: float = 20.0) -> Verdict:
    return OneProcess(inside_container=True, timeout=timeout, memory_mb=2048).run_all([(program, tests)])[0]


@pytest.mark.parametrize(
    "program", ["def f(x):\n    return x\ng = f", "import sys; sys.exit(0)", "import os; os._exit(0)", "f ="]
)
def test_a_wrong_program_and_one_that_ends_itself_do_not_pass(program: str) -> None:
    assert run(program).outcome is RunOutcome.EXCEPTION


def test_it_has_no_keys_of_ours_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.chdir(tmp_path)
    program = f"{RIGHT}\nimport os\nassert 'OPENAI_API_KEY' not in os.environ\nopen('left', 'w').write('x')"
    assert run(program).passed
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_end_is_ended() -> None:
    assert run("while True: pass", timeout=0.5).outcome is RunOutcome.TIMEOUT


def test_live_objects_reach_the_tests_and_a_missing_library_is_no_verdict() -> None:
    assert run(RIGHT, replace(TESTS, packages=("json", "numpy"))).passed
    verdict = run(RIGHT, replace(TESTS, packages=("numpy", "no_such_library")))
    assert (verdict.outcome, verdict.stderr) == (RunOutcome.REFUSED, "no package no_such_library in this container")


def test_nothing_is_run_unless_the_container_is_stated() -> None:
    with pytest.raises(BadInput, match="inside_container: true"):
        OneProcess()
