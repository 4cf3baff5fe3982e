"""The rewards of multiple-choice questions: full text and letter."""

from __future__ import annotations

import pytest

from omnithink_pl.rewards import LetterReward, QAReward
from omnithink_pl.types import Options, State
from tests.rewards.groups import answered, outcome

CITIES = Options(("Rome", "Paris", "Lima"), ("Paris",))


def value(answer: str, *golds: str, wrong: tuple[str, ...] = ()) -> float | None:
    return outcome(QAReward(), Options((*golds, *wrong), golds), answered(answer)).value


CAFE = "caf\u00e9 au lait"


def test_only_unicode_form_and_white_space_do_not_matter() -> None:
    same = [CAFE, "cafe\u0301 au lait", "  caf\u00e9\n au\u00a0 lait ", "\uff43\uff41\uff46\u00e9 au lait"]
    assert [value(answer, CAFE) for answer in same] == [1.0] * 4
    others = [CAFE.title(), CAFE[:7], f"{CAFE}.", "cafe au lait", "", "B", f"it is {CAFE}"]
    assert [value(answer, CAFE) for answer in others] == [0.0] * 7


def test_any_of_several_golds_will_do_and_plain_text_is_a_single_one() -> None:
    assert value("two", "one", "two", wrong=("three",)) == 1.0
    assert value("three", "one", "two", wrong=("three",)) == 0.0
    assert outcome(QAReward(), "yes", answered("yes")).value == 1.0


def test_folding_makes_no_wrong_option_right() -> None:
    assert value("10\u00b2 m", "10\u00b2 m", wrong=("102 m",)) == 1.0
    assert value("102 m", "10\u00b2 m", wrong=("102 m",)) == 0.0


@pytest.mark.parametrize("reward", [QAReward(), LetterReward()], ids=lambda reward: reward.name)
def test_no_answer_and_no_right_option_are_undefined(reward: QAReward | LetterReward) -> None:
    assert outcome(reward, CITIES, "B").reason == "no answer segment"
    without_gold = outcome(reward, Options(("Rome",), ()), answered("A"))
    assert (without_gold.state, without_gold.reason) == (State.UNDEFINED, "unusable reference")


def test_the_letter_is_read_in_its_usual_forms_and_any_other_text_is_wrong() -> None:
    right = ["B", "(B)", "B.", "B)", "B: Paris", " B. Paris ", "(B) Paris"]
    wrong = ["A", "C", "D", "b", "Paris", "B. Rome", "A. Paris", "A or B", "AB", "", "B B"]
    for answer in right + wrong:
        assert outcome(LetterReward(), CITIES, answered(answer)).value == float(answer in right), answer


def test_options_spelled_alike_are_right_together() -> None:
    twins = Options(("Paris", "Rome", "Paris"), ("Paris",))
    assert [outcome(LetterReward(), twins, answered(letter)).value for letter in "ABC"] == [1.0, 0.0, 1.0]
