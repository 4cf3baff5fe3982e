from __future__ import annotations

from fractions import Fraction

import pytest

from omnithink_pl.rewards.math import compare_numbers, final_expression, is_mathematical


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("5", "5"),
        (" 5. ", "5"),
        ("= 5", "5"),
        ("$5$", "5"),
        ("$$5$$", "5"),
        (r"\(5\)", "5"),
        (r"\[x^2\]", "x^2"),
        ("The sum is $x+1$.", "x+1"),
        (r"It costs \$5", r"It costs \$5"),
        (r"\boxed{4}, no, \boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"$\boxed{\{1, 2\}}$", r"\{1, 2\}"),
        (r"\boxed{3} and \boxed{4", "3"),
    ],
)
def test_the_last_box_or_the_only_formula_or_the_whole_text(text: str, expression: str) -> None:
    assert final_expression(text) == expression


@pytest.mark.parametrize("text", ["", "No", "yes", "three", "I do not know", r"\frac{1", "}1{", "no idea"])
def test_words_and_broken_braces_are_not_mathematics(text: str) -> None:
    assert not is_mathematical(text)


@pytest.mark.parametrize("text", ["0", "xy", "x", r"\pi", "3 apples", r"\text{five } 5", r"\{1\}", "sin(x)"])
def test_expressions_are_mathematics(text: str) -> None:
    assert is_mathematical(text)


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("5", "5", True),
        ("5", "+005", True),
        ("-3", "-3", True),
        ("1/2", "2/4", True),
        ("0.5", "1/2", True),
        ("5", "6", False),
        ("1/2", "1/3", False),
        ("0.333", "1/3", None),
        ("0.5", "0.51", None),
        ("5", "5%", None),
        ("5", "1/0", None),
        ("5", r"\frac{10}{2}", None),
        ("5", "9" * 5000, None),
        ("5", "1_0", None),
        ("5", "٥", None),
    ],
)
def test_plain_numbers_are_compared_exactly_and_all_else_is_left_to_the_parser(
    gold: str, answer: str, equal: bool | None
) -> None:
    assert compare_numbers(gold, answer) is equal


def test_the_comparison_agrees_with_fractions() -> None:
    texts = [f"{sign}{n}/{d}" for sign in ("", "-") for n in range(4) for d in range(1, 4)]
    for left in texts:
        for right in texts:
            assert compare_numbers(left, right) is (Fraction(left) == Fraction(right))
