"""Which outputs count as equal, and which tests are usable."""

from __future__ import annotations

import json

import pytest

from omnithink_pl.sandbox.base import parse_tests, same_output
from omnithink_pl.types import UnitTests

SPACE = [
    ("3", "3"),
    ("3\n", "3"),
    ("\n3 \n\n", "3"),
    ("1 \n2", "1\n2"),
    ("1\r\n2\r\n", "1\n2"),
    ("", ""),
    ("\ufeff3", "3"),
]
SPACE += [("\ufeff3", "3")]
ROUNDING = [("0.30000000000000004", "0.3"), ("0.6666666666666666", "0.666667"), ("1e-07", "0.0000001"), ("3.0", "3")]
ROUNDING += [("3", "3.0"), ("x 1.0000001", "x 1.0"), ("-0.0", "0.0"), ("1000000.4", "1000000.5")]
LINES = [("", "3"), ("3", ""), ("1", "1\n2"), ("1\n2\n3", "1\n2"), ("1 2", "1\n2"), ("1\n\n2", "1\n2")]
LINES += [("1\u20282", "1\n2")]
WORDS = [("33", "3"), ("a b", "a  c"), ("YES", "Yes"), ("0x10", "16"), ("1_0.0", "10.0"), ("١", "1")]
NUMBERS = [("0.31", "0.3"), ("3.0000001", "3"), ("11", "0011"), ("0011.0", "0011")]
NUMBERS += [("nan", "1.5"), ("inf", "1.5"), ("1e999", "2.5")]


@pytest.mark.parametrize(("output", "expected"), [*SPACE, *ROUNDING])
def test_equal_up_to_white_space_and_rounding(output: str, expected: str) -> None:
    assert same_output(output, expected)


@pytest.mark.parametrize(("output", "expected"), [*LINES, *WORDS, *NUMBERS])
def test_anything_else_differs(output: str, expected: str) -> None:
    assert not same_output(output, expected)


def test_both_kinds_are_read_from_json_and_mappings() -> None:
    pairs = {"inputs": ["1"], "outputs": ["2"]}
    assert parse_tests(pairs) == parse_tests(json.dumps(pairs)) == UnitTests(inputs=("1",), outputs=("2",))
    assert parse_tests('{"functional": "check(f)"}') == UnitTests(functional="check(f)")
    assert parse_tests(UnitTests(functional="x")) == UnitTests(functional="x")
    assert parse_tests({"inputs": [["1", "2"]], "outputs": [3]}) == UnitTests(inputs=("1\n2",), outputs=("3",))


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ({"inputs": ["1", "2"], "outputs": ["1"]}, "2 inputs and 1 outputs"),
        ({"cases": []}, "neither"),
        ("[1]", "list"),
        ("{", "Expecting"),
        (UnitTests(inputs=("1",)), "1 inputs and 0 outputs"),
    ],
)
def test_what_is_no_test_is_refused(tests: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tests(tests)  # type: ignore[arg-type]
