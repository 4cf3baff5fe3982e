"""The letter reward: the letter of a right option in the order of the prompt."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards.qa import LetterReward
from omnithink_pl.types import Options, State
from tests.rewards.groups import answered, outcome

OPTIONS = Options(("Rome", "Paris", "Lima"), ("Paris",))


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "B)", "B: Paris", " B. Paris ", "(B) Paris"])
def test_the_letter_is_read_in_its_usual_forms(answer: str) -> None:
    assert outcome(LetterReward(), OPTIONS, answered(answer)).value == 1.0


@pytest.mark.parametrize("answer", ["A", "C", "D", "b", "Paris", "B. Rome", "A. Paris", "A or B", "AB", "", "B B"])
def test_anything_else_is_wrong(answer: str) -> None:
    assert outcome(LetterReward(), OPTIONS, answered(answer)).value == 0.0


def test_options_spelled_alike_are_right_together() -> None:
    twins = Options(("Paris", "Rome", "Paris"), ("Paris",))
    assert [outcome(LetterReward(), twins, answered(letter)).value for letter in "ABC"] == [1.0, 0.0, 1.0]


def test_without_an_answer_or_a_right_option_it_is_undefined() -> None:
    assert outcome(LetterReward(), OPTIONS, "B").state is State.UNDEFINED
    assert outcome(LetterReward(), Options(("Rome",), ("Paris",)), answered("A")).reason == "unusable reference"


def test_a_reference_without_options_is_an_error() -> None:
    with pytest.raises(TypeError, match="letters need Options"):
        outcome(LetterReward(), "Paris", answered("A"))
