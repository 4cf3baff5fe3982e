"""Canonical solutions pass, broken ones do not, and what packs the tests cannot do harm."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites import BigCodeBench, HumanEval, LiveCodeBench
from omnithink_pl.rewards import CodeReward
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import State, UnitTests
from tests.evaluation.suites.rows import BIGCODEBENCH, FUNCTIONAL, HUMANEVAL, STDIN, Row, case, packed, write
from tests.rewards.groups import answered, outcome

LIVE = LiveCodeBench()
SUMS = "import sys\nfor line in sys.stdin:\n    print(sum(map(int, line.split())))"
PAIR = "class Solution:\n    def pair(self, a, b):\n        return (a, b)"


@pytest.fixture(scope="module")
def reward() -> Iterator[CodeReward]:
    reward = CodeReward(HardenedSandbox(workers=1))
    yield reward
    reward.close()


def unit_tests(source: HumanEval | BigCodeBench | LiveCodeBench, row: Row) -> UnitTests:
    example = source.example("code", 0, row)
    assert example is not None
    assert isinstance(example.reference, UnitTests)
    return example.reference


SOLUTIONS = [
    (HumanEval(), HUMANEVAL, HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"], ("xs))", "xs[1:]))")),
    # Without imports: those of the prompt are there.
    (BigCodeBench(), BIGCODEBENCH, "def running(xs):\n" + BIGCODEBENCH["canonical_solution"], ("xs))", "xs))[1:]")),
    (LIVE, STDIN, SUMS, ("sum(", "max(")),
    (LIVE, FUNCTIONAL, PAIR, ("(a, b)\n", "(b, a)\n")),
]


@pytest.mark.parametrize(("source", "row", "solution", "mutation"), SOLUTIONS, ids=["human", "big", "stdin", "live"])
def test_a_canonical_solution_passes_and_a_broken_one_does_not(
    source: HumanEval, row: Row, solution: str, mutation: tuple[str, str], reward: CodeReward
) -> None:
    tests = unit_tests(source, row)
    assert outcome(reward, tests, answered(f"```python\n{solution}\n```")).value == 1.0
    broken = f"{solution}\n".replace(*mutation)
    assert broken != f"{solution}\n"
    assert outcome(reward, tests, answered(f"```python\n{broken}\n```")).value == 0.0
    assert outcome(reward, tests, answered("pass")).value == 0.0


def test_a_problem_whose_libraries_are_missing_has_no_verdict_rather_than_a_0(reward: CodeReward) -> None:
    tests = unit_tests(BigCodeBench(), BIGCODEBENCH | {"libs": "['itertools', 'pandas', 'sklearn.linear_model']"})
    assert tests.packages == ("itertools", "pandas", "sklearn")
    found = outcome(reward, tests, answered(BIGCODEBENCH["canonical_solution"]))
    assert (found.state, found.reason) == (State.FAILED, "sandbox refused: no package pandas, sklearn in the sandbox")


def test_only_contests_in_time_count_whether_the_date_is_text_or_a_timestamp(tmp_path: Path) -> None:
    dates = ["2024-09-30T00:00:00", "2024-10-01T00:00:00", "2025-01-31T23:59:00", "2025-02-01T00:00:00"]
    rows = [STDIN | {"question_id": f"q{i}", "contest_date": day} for i, day in enumerate(dates)]
    found = LiveCodeBench(str(write(tmp_path / "rows.jsonl", *rows))).examples("code", "test")
    assert [example.uid for example in found] == ["q1", "q2"]
    assert found[0].category == "easy"
    stamped = STDIN | {"contest_date": datetime(2024, 12, 1)}
    assert LIVE.example("code", 0, stamped) is not None
    assert LiveCodeBench(first="2024-12-02").example("code", 0, stamped) is None
    with pytest.raises(BadInput, match=r"first='October' .* is no day; write 2024-10-01"):
        LiveCodeBench(first="October")


def test_public_and_private_tests_count_and_private_ones_may_be_packed() -> None:
    assert unit_tests(LIVE, STDIN) == UnitTests(("1 2\n", "1 2\n3 4\n"), ("3\n", "3\n7"))
    plain = STDIN | {"private_test_cases": json.dumps([case("5\n", "5")])}
    assert unit_tests(LIVE, plain).inputs == ("1 2\n", "5\n")


class Harm:
    """What an attacker would put into a row."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("harm"),))


def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    harmful = base64.b64encode(zlib.compress(pickle.dumps(Harm()))).decode()
    with pytest.raises(BadInput, match=r"row 0 \(abc377_a\): 'private_test_cases' cannot be decoded \(it asks for "):
        LIVE.example("code", 0, STDIN | {"private_test_cases": harmful})
    assert not (tmp_path / "harm").exists()


NOT_JSON = json.dumps([case("1\n[", "1", "functional")])


@pytest.mark.parametrize(
    ("source", "row", "change", "message"),
    [
        (HumanEval(), HUMANEVAL, {"test": ""}, r"\(HumanEval/900\): 'test' defines no check"),
        (BigCodeBench(), BIGCODEBENCH, {"test": None}, r"\(BigCodeBench/900\): 'test' has no class"),
        (BigCodeBench(), BIGCODEBENCH, {"libs": "oops("}, "'libs' is no list of names"),
        (LIVE, STDIN, {"private_test_cases": "not base64!"}, r"\(abc377_a\): 'private_test_cases' cannot be decoded"),
        (LIVE, STDIN, {"private_test_cases": packed([case("1", "1", "functional")])}, r"\['functional', 'stdin'\]"),
        (LIVE, STDIN, {"public_test_cases": "[]", "private_test_cases": "[]"}, r"of the kinds \[\]"),
        (LIVE, STDIN, {"contest_date": "soon"}, "'contest_date' is 'soon', no date"),
        (LIVE, FUNCTIONAL, {"metadata": "{}"}, r"\(3566\): 'metadata' has no func_name"),
        (LIVE, FUNCTIONAL, {"private_test_cases": NOT_JSON}, "a functional test is not JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(source: HumanEval, row: Row, change: Row, message: str) -> None:
    with pytest.raises(BadInput, match=rf"{type(source).__name__}\(.*row 0 .*{message}"):
        source.example("code", 0, row | change)
