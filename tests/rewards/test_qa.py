from __future__ import annotations

import pytest

from omnithink_pl.rewards import QAReward
from omnithink_pl.types import Options, State, UnitTests
from tests.rewards.groups import answered, outcome


def value(answer: str, *golds: str, wrong: tuple[str, ...] = ()) -> float | None:
    return outcome(QAReward(), Options((*golds, *wrong), golds), answered(answer)).value


@pytest.mark.parametrize(
    "answer",
    ["caf\u00e9 au lait", "cafe\u0301 au lait", "  caf\u00e9\n au\u00a0 lait ", "\uff43\uff41\uff46\u00e9 au lait"],
)
def test_unicode_form_and_white_space_do_not_matter(answer: str) -> None:
    assert value(answer, "caf\u00e9 au lait") == 1.0


@pytest.mark.parametrize(
    "answer",
    ["Caf\u00e9 au lait", "caf\u00e9 au", "caf\u00e9 au lait.", "cafe au lait", "", "B", "it is caf\u00e9 au lait"],
)
def test_everything_else_does(answer: str) -> None:
    assert value(answer, "caf\u00e9 au lait") == 0.0


def test_any_of_several_golds_will_do() -> None:
    assert value("two", "one", "two", wrong=("three",)) == 1.0
    assert value("three", "one", "two", wrong=("three",)) == 0.0


def test_folding_makes_no_wrong_option_right() -> None:
    assert value("10\u00b2 m", "10\u00b2 m", wrong=("102 m",)) == 1.0
    assert value("102 m", "10\u00b2 m", wrong=("102 m",)) == 0.0


def test_plain_text_is_a_single_gold() -> None:
    assert outcome(QAReward(), "yes", answered("yes")).value == 1.0


def test_no_answer_and_no_gold_are_undefined() -> None:
    assert outcome(QAReward(), Options(("a",), ("a",)), "a").reason == "no answer segment"
    without_gold = outcome(QAReward(), Options(("a",), ()), answered("a"))
    assert (without_gold.state, without_gold.reason) == (State.UNDEFINED, "unusable reference")


def test_a_reference_of_another_task_is_refused_with_the_row() -> None:
    with pytest.raises(TypeError, match="row-7"):
        outcome(QAReward(), UnitTests(), answered("a"))
