"""Which names a test uses as classes, and which comparisons are guarded against arguments that change."""

from __future__ import annotations

import ast

import pytest

from omnithink_pl.sandbox.inside.expectations import guard
from omnithink_pl.sandbox.inside.trust import classes_in_use


@pytest.mark.parametrize(
    ("test", "names"),
    [
        ("s = Stack()\nassert s.peek() == 1", {"Stack"}),
        ("assert Stack().peek() == 1", {"Stack"}),
        ("t = Tree()\nt.insert(5)\nassert 5 in t", {"Tree"}),
        ("with Pool() as p:\n    assert p.size == 1", {"Pool"}),
        ("assert isinstance(f(1), (A, B))", {"A", "B"}),
        ("try:\n    f(1)\nexcept Bad:\n    pass", {"Bad"}),
        ("assert Color.RED", {"Color"}),
        ("assert Extract([1]) == [1]", set()),
        ("x = Extract([1])\nx.sort()\nassert x == [1]", set()),
        ("x = extract([1])\nx.append(2)\nassert x == [1, 2]", set()),
        ("assert Find(1).upper() == 'A' and Find(2).items()", set()),
    ],
)
def test_names_that_only_a_class_can_have(test: str, names: set[str]) -> None:
    assert classes_in_use(ast.parse(test)) == names


def run(test: str, function: str) -> list[str]:
    """What a test gives up for, with a function in its own namespace."""
    tree, reasons = ast.parse(test), list[str]()
    namespace = guard(tree, reasons.append)
    exec(function, namespace)
    exec(compile(tree, "tests.py", "exec"), namespace)
    return reasons


CLEARS = "def f(x):\n    x.clear()\n    return x"
SORTS = "def f(x):\n    x.sort()\n    return x"
COPIES = "def f(x):\n    return sorted(x)"
SHORTENS = "def f(x):\n    x.pop()\n    return len(x)"
IN_UNITTEST = "import unittest\nx = [2, 1]\nunittest.TestCase().assertEqual(f(x), sorted(x))"


@pytest.mark.parametrize(
    ("test", "function", "gives_up"),
    [
        ("x = [2, 1]\nassert f(x) == sorted(x)", CLEARS, True),
        ("def check(c):\n    x = [2, 1]\n    assert c(x) == sorted(x)\ncheck(f)", CLEARS, True),
        (IN_UNITTEST, CLEARS, True),
        ("x = [2, 1]\nassert f(x) == len(x)", SHORTENS, True),
        ("x = [2, 1]\nassert f(x) == x", SORTS, True),
        ("x = [2, 1]\nassert f(x) == sorted(x)", SORTS, False),
        ("x = [2, 1]\nassert f(x) == sorted(x)", COPIES, False),
        (IN_UNITTEST, COPIES, False),
        ("x = [2, 1]\nassert f(x) == [1, 2]", SORTS, False),
        ("x = [2, 1]\nassert f(y := x) == sorted(x)", SORTS, False),
        ("x = {}\nassert f(x) == x['new']", "def f(x):\n    x['new'] = 3\n    return 3", False),
    ],
)
def test_expectations_are_also_computed_before_the_call(test: str, function: str, gives_up: bool) -> None:
    assert bool(run(test, function)) == gives_up


def test_a_guarded_comparison_that_is_wrong_fails() -> None:
    with pytest.raises(AssertionError):
        run("x = [2, 1]\nassert f(x) == sorted(x)", "def f(x): return x")
