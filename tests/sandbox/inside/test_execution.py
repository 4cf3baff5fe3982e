"""Which names a test takes from the program: what it tests and what only the program has, nothing else."""

from __future__ import annotations

import ast

import pytest

from omnithink_pl.sandbox.inside.execution import wanted_names

PROVIDED = {"gcd", "Counter", "inf", "math", "count"}
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n"


def wanted(tests: str, offered: set[str], entry_point: str = "") -> set[str]:
    return wanted_names(ast.parse(tests), entry_point, offered, PROVIDED)


@pytest.mark.parametrize(
    ("tests", "offered", "names"),
    [
        (f"{CHECK}check(f)", {"f", "g", "sorted", "check"}, {"f"}),
        (f"{CHECK}check(Solution().f)", {"Solution", "f"}, {"Solution"}),
        (f"{CHECK}check(gcd)", {"gcd", "inf"}, {"gcd"}),
        (f"{CHECK}check(sum)", {"sum", "abs"}, {"sum"}),
        (f"{CHECK}check(lambda count: f(count))", {"f", "count"}, {"f", "count"}),
        ("def check(c):\n    assert c(1) == inf\ncheck(f)", {"f", "inf"}, {"f"}),
        ("def check(c):\n    assert is_same_list(c(1), list_node([1]))\ncheck(f)", {"f", "is_same_list"}, {"f"}),
        ("def check(c):\n    assert c(encode(1)) == 1\ncheck(decode)", {"encode", "decode"}, {"encode", "decode"}),
        ("assert f(1) == abs(2)", {"f", "abs"}, {"f"}),
        ("assert gcd(4, 6) == 2", {"gcd"}, {"gcd"}),
        ("assert sum([1]) == 1", {"sum", "len"}, {"sum"}),
        ("assert f(1)\nassert gcd(4, 6) == 2", {"f", "gcd"}, {"f", "gcd"}),
        ("assert f(1) == gcd(4, 6)\nassert gcd(4, 6) == 2", {"f", "gcd"}, {"f"}),
        ("x = inf()\nassert f(x)", {"f", "math", "gcd"}, {"f"}),
        ("from solution import f as g\nassert len(g(1)) == 1", {"f", "len"}, set()),  # the module has what it needs
        ("from solution import *\nassert len(f(1)) == 1", {"f", "len"}, {"f"}),
        ("from math import gcd\nassert gcd(4, f(6)) == 2", {"gcd", "f"}, {"f"}),
        ("def helper(x):\n    return x\nassert helper(f(1))", {"f", "helper"}, {"f"}),
        ("assert f(Node(1)) == 1", {"f", "Node"}, {"f", "Node"}),  # its own, whatever the prelude has
        ("class Node: pass\nassert f(Node()) == 1", {"f", "Node"}, {"f"}),
        ("assert f(1), __file__", {"f", "__file__", "__builtins__"}, {"f"}),
        ("assert Counter('a') == gcd(1, 2)", {"other"}, set()),  # a test that never uses the program fails
    ],
)
def test_names_taken_from_the_program(tests: str, offered: set[str], names: set[str]) -> None:
    assert wanted(tests, offered) == names


def test_the_rows_entry_point_names_what_is_tested_and_the_prelude_does_not_stand_in_for_it() -> None:
    assert wanted("assert gcd(4, 6) == inf", {"gcd", "inf"}, "gcd") == {"gcd"}
    with pytest.raises(NameError, match="gcd"):
        wanted(f"{CHECK}check(gcd)", {"other"})
