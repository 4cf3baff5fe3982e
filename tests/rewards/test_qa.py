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
    others = [CAFE.title(), CAFE[:7], f"{CAFE}!", "cafe au lait", "", "B", f"it is {CAFE}"]
    assert [value(answer, CAFE) for answer in others] == [0.0] * 7


@pytest.mark.parametrize(
    "answer",
    [
        *("- Paris", "* Paris", "Paris.", "**Paris**", "- **Paris.**", "**Paris**.", "_Paris_", "`Paris`", '"Paris"'),
        *("\u201cParis\u201d", "'Paris'", r"\boxed{Paris}", r"\boxed{\text{Paris}}", r"$\text{Paris}$", "\uff30aris"),
        *(
            "**`Paris`**",
            "** Paris **",
            "```\nParis\n```",
            r"\textit{Paris}",
            "\\[\n\\boxed{\\text{Paris}}\n\\]",
            "$$Paris$$",
        ),
    ],
)
def test_layout_around_an_option_does_not_count(answer: str) -> None:
    assert outcome(QAReward(), CITIES, answered(f" {answer}\n")).value == 1.0
    assert (
        outcome(QAReward(), CITIES, answered(answer.replace("Paris", "Rome").replace("\uff30aris", "Rome"))).value
        == 0.0
    )


@pytest.mark.parametrize(
    "answer",
    [
        *("Paris and Rome", "Paris or Rome.", "**Paris** or **Rome**", '"Paris", "Rome"', "- Paris\n- Rome", "Par"),
        *(
            "$Paris$ or $Rome$",
            r"\boxed{Paris} or \boxed{Rome}",
            "`Paris`, `Rome`",
            "*Paris*\n*Paris*",
            "~~Paris~~",
            "<b>Paris",
        ),
        *("paris", "not Paris", "B", "B. Paris", "(Paris)", "Paris, France", "The answer is Paris", "-", "**", "."),
    ],
)
def test_anything_else_beside_the_option_does(answer: str) -> None:
    assert outcome(QAReward(), CITIES, answered(answer)).value == 0.0


MARKED = ["$8,902", "$g_3(x)$ where $x$ is real", 'both "fit" and "unfit"', "Sagittarius A*", "**", "'a' + 'b'"]
MARKED += [r"\frac{\sqrt{3^{2}}}{12}", "the `if` and the `else`", "$a$ and \u201cb\u201d"]
LAYOUTS = ["{}.", "- {}", "**{}**", "*{}*", "`{}`", '"{}"', "'{}'", "${}$", r"\boxed{{\text{{{}}}}}", r"\({}\)"]


@pytest.mark.parametrize("option", MARKED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_option_may_itself_have_the_marks_that_stand_around_it(option: str, layout: str) -> None:
    assert value(layout.format(option), option, wrong=("Paris",)) == 1.0
    assert value(layout.format("Paris"), option, wrong=("Paris",)) == 0.0
    two = f"{layout} or {layout}"
    assert value(two.format(option, "Paris"), option, wrong=("Paris",)) == 0.0
    assert value(two.format(option, option), option, wrong=("Paris",)) == 0.0


def test_an_escaped_character_and_a_prime_are_the_same_text() -> None:
    pairs = [("$8,902", r"\$8,902"), ("10%", r"\boxed{10\%}"), ("a_b", r"a\_b"), ("5\u2032 GCU 3\u2032", "5' GCU 3'")]
    assert [value(answer, gold, wrong=("Paris",)) for gold, answer in pairs] == [1.0] * 4
    assert value(r"10\%", "10", wrong=("10%",)) == 0.0
    assert value(r"\frac{1}{2}", "frac{1}{2}", wrong=("Paris",)) == 0.0


# Two options, of which only the first is right; answers that earn 1, answers that do not.
TWINS = [
    ("-5", "5", ["-5", "- -5", "**-5**", "-5.", "\u22125"], ["5", "- 5", "+5"]),
    ("- 5", "5", ["- 5", "- - 5"], ["5", "-5"]),
    ("Paris.", "Paris", ["Paris.", "**Paris.**", "- Paris.", "Paris.."], ["Paris", "**Paris**"]),
    ("1", "1.", ["1", "**1**"], ["1.", "- 1."]),
    ('"yes"', "yes", ['"yes"', '- "yes"'], ["yes", "'yes'"]),
    ("$5$", "$5", ["$5$", r"\(5\)", "5"], ["$5", "5$"]),
    ("mW", "MW", ["mW", "`mW`"], ["MW", "mw"]),
    ("10\u00b2 m", "11", ["10\u00b2 m"], ["102 m", "10 m"]),  # a superscript is no digit
    ("5\u00bd", "6", ["5\u00bd"], ["51/2", "51\u20442"]),
    ("5\u20137", "5-7", ["5\u20137"], ["5-7"]),  # an en dash, where it is all that differs
    ("5\u20137", "8", ["5-7", "5\u20137"], ["57"]),
    ("Newton\u2019s law", "none", ["Newton's law"], ["Newtons law"]),
    ("*x*", "x", ["*x*"], ["x", "**x**"]),
    ("**kw", "kw", ["**kw", "`**kw`"], ["kw", "`kw`"]),
    ("[1,2]", "(1,2)", ["[1,2]"], ["(1,2)", "1,2"]),
    ("wait...", "wait", ["wait..."], ["wait", "wait."]),
    ("0.5", "0.50", ["0.5", "0.5."], ["0.50", ".5"]),
]


@pytest.mark.parametrize(("gold", "other", "right", "wrong"), TWINS)
def test_what_two_options_differ_by_counts(gold: str, other: str, right: list[str], wrong: list[str]) -> None:
    assert [value(answer, gold, wrong=(other,)) for answer in right + wrong] == [1.0] * len(right) + [0.0] * len(wrong)
    assert value(other, gold, wrong=(other,)) == 0.0
    assert value(other, other, wrong=(gold,)) == 1.0


def test_an_endless_answer_is_wrong_at_once() -> None:
    assert value("\"'" * 500_000, "Paris", wrong=("Rome",)) == 0.0
    assert outcome(LetterReward(), CITIES, answered("*" * 1_000_000)).value == 0.0


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
    right = ["B", "(B)", "B.", "B)", "B: Paris", " B. Paris ", "(B) Paris", "[B]", "**B**", "**(B)**", "**B.** Paris"]
    right += ["B. Paris.", "[B] Paris", "- B", "- B. Paris", "B. **Paris**", "**B. Paris**", r"\boxed{B}", "`B`", '"B"']
    right += ["**B**. Paris", r"\boxed{\text{B}}", r"\textbf{B}", "$B$", "B - Paris", "(B).", "B.\nParis", "\uff22"]
    wrong = ["A", "C", "D", "b", "Paris", "B. Rome", "A. Paris", "A or B", "AB", "", "B B", "Bread", "B Paris", "B, C"]
    wrong += ["**B** or **C**", "(B)(C)", "B. C", "B.C.", "(B", "B. Paris and Rome", "B. Par", "[A] Paris", "\u24b7"]
    for answer in right + wrong:
        assert outcome(LetterReward(), CITIES, answered(answer)).value == float(answer in right), answer


def test_options_spelled_alike_are_right_together() -> None:
    twins = Options(("Paris", "Rome", "Paris"), ("Paris",))
    assert [outcome(LetterReward(), twins, answered(letter)).value for letter in "ABC"] == [1.0, 0.0, 1.0]
