"""The code reward: which program runs, and what its verdict is worth."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards import CodeReward
from omnithink_pl.rewards.code import extract_program
from omnithink_pl.sandbox import RunOutcome
from omnithink_pl.types import State, UnitTests
from tests.rewards.groups import SayingSandbox, answered, group, outcome

TESTS = UnitTests(inputs=("1",), outputs=("2",))


def test_only_a_pass_is_worth_one() -> None:
    ends = [end for end in RunOutcome if end not in {RunOutcome.REFUSED, RunOutcome.UNDEFINED}]
    (found,) = CodeReward(SayingSandbox()).score([group(TESTS, *map(answered, ends))])
    assert [one.value for one in found] == [float(end is RunOutcome.PASSED) for end in ends]


def test_each_program_runs_once_against_the_same_tests() -> None:
    sandbox = SayingSandbox()
    reward = CodeReward(sandbox)
    other = UnitTests(inputs=("1",), outputs=("3",))
    batch = [group(TESTS, *map(answered, ("passed", "timeout", "passed"))), group(other, answered("passed"))]
    first, second = reward.score(batch), reward.score(batch)
    assert sandbox.ran == [["passed", "timeout", "passed"]]
    assert first == second
    assert [[o.value for o in row] for row in first] == [[1.0, 0.0, 1.0], [1.0]]


def test_a_sandbox_that_refuses_is_failed_not_zero_and_tried_again_next_time() -> None:
    sandbox = SayingSandbox()
    reward = CodeReward(sandbox)
    assert [outcome(reward, TESTS, answered("refused")).state for _ in range(2)] == [State.FAILED] * 2
    assert sandbox.ran == [["refused"], ["refused"]]
    reward.close()
    assert sandbox.closed == 1


def test_a_test_without_a_verdict_is_undefined_not_zero() -> None:
    assert outcome(CodeReward(SayingSandbox()), TESTS, answered("undefined")).state is State.UNDEFINED


@pytest.mark.parametrize(
    ("tests", "text", "reason"),
    [
        (TESTS, "print(2)", "no answer segment"),
        (UnitTests(), answered("passed"), "unusable reference"),
        (UnitTests(functional="  "), answered("passed"), "unusable reference"),
        (UnitTests(inputs=("1", "2"), outputs=("2",)), answered("passed"), "unusable reference"),
    ],
)
def test_no_answer_and_no_tests_are_undefined(tests: UnitTests, text: str, reason: str) -> None:
    found = outcome(CodeReward(SayingSandbox()), tests, text)
    assert (found.state, found.reason) == (State.UNDEFINED, reason)


@pytest.mark.parametrize(
    ("segment", "program"),
    [
        ("print(1)", "print(1)"),
        ("\n    a = 1\n    print(a)\n", "a = 1\nprint(a)"),
        ("\ndef f():\n    return 1\n", "def f():\n    return 1"),
        ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)"),
        ("```py\nx = 1\n```\n```\nif x:\n    y = 2\n```", "if x:\n    y = 2"),
        ("  ```python\n  x = 1\n  ```", "x = 1"),
        ('s = "```"\nprint(s)', 's = "```"\nprint(s)'),
    ],
)
def test_the_last_code_block_or_all_of_the_answer_is_the_program(segment: str, program: str) -> None:
    assert extract_program(segment) == program
