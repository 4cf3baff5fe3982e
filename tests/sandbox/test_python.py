"""Functional tests mean what plain Python means, though program and test run in different boxes."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from omnithink_pl.sandbox import HardenedSandbox, RunOutcome
from omnithink_pl.types import UnitTests
from tests.sandbox.programs.generated import CANONICAL
from tests.sandbox.programs.plain import SECONDS

Pair = tuple[str, str]  # program, test


def read(name: str) -> dict[str, Pair]:
    """Programs with several tests each, and each test once more with its last assert denied."""
    found: dict[str, Pair] = {}
    text = (Path(__file__).parent / "programs" / name).read_text()
    for entry in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]:
        title, _, body = entry.partition("\n")
        program, *tests = re.split(r"^---\n", body, flags=re.MULTILINE)
        for place, test in enumerate(tests):
            found[f"{title} {place}"] = program, test
            *head, last = test.strip("\n").split("\n")
            if last.startswith("assert "):
                found[f"{title} {place}, denied"] = program, "\n".join([*head, f"assert not ({last[7:]})"])
    return found


PROGRAMS = read("python.txt")


CHANGES: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Mod: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.In: ast.NotIn,
    ast.Is: ast.IsNot,
}


class Mutation(ast.NodeTransformer):
    """Changes the operator, number or result at one place."""

    def __init__(self, place: int) -> None:
        self.remaining = place

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        kind = CHANGES.get(type(node))
        is_number = isinstance(node, ast.Constant) and type(node.value) is int
        is_result = isinstance(node, ast.Return) and node.value is not None
        if kind is not None or is_number or is_result:
            self.remaining -= 1
            if self.remaining == -1:
                return self.changed(node, kind)
        return node

    def changed(self, node: ast.AST, kind: type | None) -> ast.AST:
        match node:
            case ast.Constant(value=int() as value):
                return ast.Constant(value + 1)
            case ast.Return(value=ast.expr() as value):
                return ast.Return(ast.Tuple([value], ast.Load()))
        assert kind is not None
        return kind()


def mutants(program: str) -> list[str]:
    tree, found = ast.parse(program), []
    while (mutation := Mutation(len(found))).remaining < 16:
        changed = mutation.visit(ast.parse(program))
        if mutation.remaining >= 0:
            break
        found.append(ast.unparse(ast.fix_missing_locations(changed)))
    return [mutant for mutant in found if mutant != ast.unparse(tree)]


def plain(pairs: list[Pair]) -> list[bool]:
    """The verdicts of plain Python."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.programs.plain"],
        input=json.dumps(pairs),
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def differences(sandbox: HardenedSandbox, pairs: list[Pair]) -> tuple[list[Pair], int]:
    """The pairs whose verdict is not that of plain Python, and the number of those without one."""
    outcomes = [
        verdict.outcome for verdict in sandbox.run_all([(one, UnitTests(functional=two)) for one, two in pairs])
    ]
    judged = [
        pair
        for pair, outcome, expected in zip(pairs, outcomes, plain(pairs), strict=True)
        if outcome is not RunOutcome.UNDEFINED and (outcome is RunOutcome.PASSED) != expected
    ]
    return judged, outcomes.count(RunOutcome.UNDEFINED)


def test_law_10_programs_get_the_verdict_of_plain_python_or_in_a_few_cases_none(sandbox: HardenedSandbox) -> None:
    pairs = list(PROGRAMS.values())
    assert len(pairs) >= 300
    wrong, undefined = differences(sandbox, pairs)
    assert [name for name, pair in PROGRAMS.items() if pair in wrong] == []
    assert undefined <= len(pairs) / 50


def test_law_10_mutants_get_the_verdict_of_plain_python() -> None:
    sandbox = HardenedSandbox(workers=1, timeout=SECONDS)
    pairs = [(mutant, case.tests.functional) for case in CANONICAL for mutant in mutants(case.program)]
    classes = ("a stack 0", "a container class 0", "bank 0", "matrix 1", "linked lists of the program 0", "trie 0")
    pairs += [(mutant, PROGRAMS[name][1]) for name in classes for mutant in mutants(PROGRAMS[name][0])]
    assert len(pairs) >= 50
    assert differences(sandbox, pairs) == ([], 0)
    sandbox.close()


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("class W(V): pass", "derives its class W"),
        ("import pickle\npickle.dumps(V())", "pickles"),
        ("assert V() == 3", "compares an object of the program with data"),
        ("def broken(:", "do not compile"),
        ("x = [1]\nassert shorten(x) == len(x)", "from an argument that the program has changed"),
    ],
)
def test_what_cannot_cross_has_no_verdict_and_the_reason_is_told(test: str, reason: str) -> None:
    program = "class V:\n    def __eq__(self, other): return True\ndef shorten(x):\n    x.clear()\n    return 0"
    sandbox = HardenedSandbox(workers=1)
    verdict = sandbox.run(program, UnitTests(functional=test))
    sandbox.close()
    assert verdict.outcome is RunOutcome.UNDEFINED
    assert reason in verdict.stderr


ARRAYS = """
import numpy as np
import pandas as pd
def double(a): return a * 2
def poke(a): a[0] = 5
def grow(frame): frame["c"] = frame.a.astype(str)
def sizes(frame): return frame.groupby("a").size()
"""
ARRAY_TESTS = """
import numpy as np
import pandas as pd
a = np.arange(3.0)
np.testing.assert_array_equal(double(a), [0, 2, 4])
assert double(np.int64(3)) == 6 and double(np.array([[True]])).dtype == int
poke(a)
assert a[0] == 5
frame = pd.DataFrame({"a": [1, 2], "when": pd.to_datetime(["2024-01-02", None]), "b": ["x", "y"]})
expected = frame.assign(c=["1", "2"])
grow(frame)
pd.testing.assert_frame_equal(frame, expected)
assert sizes(frame)[1] == 1
"""


def test_packages_that_are_compiled_and_their_values_cross_where_asked_for(sandbox: HardenedSandbox) -> None:
    pytest.importorskip("pandas")
    tests = UnitTests(functional=ARRAY_TESTS)
    assert "numpy" in sandbox.run(ARRAYS, tests).stderr, "they are not there by default"
    with_packages = HardenedSandbox(workers=1, tier=sandbox.tier.value, packages=("numpy", "pandas"))  # type: ignore[arg-type]
    verdict = with_packages.run(ARRAYS, tests)
    with_packages.close()
    assert verdict.passed, verdict.stderr
