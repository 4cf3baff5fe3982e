"""What the warm start shows of questions that are answered by a letter."""

from __future__ import annotations

import random
import re

from omnithink_pl.embedded import qa
from omnithink_pl.embedded.demonstrations import FIRST_OPTION, Demonstration, letter_demonstration, qa_demonstration
from omnithink_pl.embedded.demonstrations import QA_FAITHFUL as FAITHFUL
from omnithink_pl.embedded.make import LESSONS, LETTERS, demonstrations
from omnithink_pl.embedded.qa import CAPITALS

OPTIONS = ("Lima", "Rome", "Paris", "Oslo", "Cairo")
KNOWN = next(subject for subject in CAPITALS.facts if subject not in CAPITALS.left_out)
LINE = re.compile(r"(?:([A-Z])\.|-) (.+)")


def question(subject: str = KNOWN) -> qa.QAProblem:
    right = CAPITALS.facts[subject]
    return qa.QAProblem(CAPITALS, subject, 0, (right, *[option for option in OPTIONS if option != right][:4]))


def options(shown: Demonstration) -> dict[str, str]:
    """The options of a prompt by their letters, or by their places where they have none."""
    found = [match for line in shown.prompt.splitlines() if (match := LINE.fullmatch(line))]
    return {match[1] or str(place): match[2] for place, match in enumerate(found)}


def answer(shown: Demonstration) -> str:
    return shown.completion.partition("<answer>")[2].removesuffix("</answer>")


def test_a_letter_names_the_option_that_the_same_draw_answers_in_full() -> None:
    for seed in range(200):
        texts = qa_demonstration(question(), random.Random(seed), habits=True)
        letters = letter_demonstration(question(), random.Random(seed), habits=True)
        assert list(options(letters).values()) == list(options(texts).values())
        assert list(options(letters)) == list("ABCDE")
        if all(
            "</think><answer>" in shown.completion and shown.completion.endswith("</answer>")
            for shown in (texts, letters)
        ):
            assert options(letters)[answer(letters)] == answer(texts)


def test_taught_letters_are_those_of_the_right_option_wherever_it_stands() -> None:
    shown = [letter_demonstration(question(), random.Random(seed), habits=False) for seed in range(200)]
    assert {options(one)[answer(one)] for one in shown} == {CAPITALS.facts[KNOWN]}
    # The thought goes through the options and ends with the one that is answered.
    assert all(
        one.completion.partition("</think>")[0].endswith(f"{answer(one)}. {options(one)[answer(one)]}") for one in shown
    )
    assert {answer(one) for one in shown} == set("ABCDE")


def test_habits_answer_the_first_letter_as_often_as_they_answer_the_first_text() -> None:
    """Right: the faithful, and a fifth of the others. A: the habit, and a fifth of the others."""
    rng, many = random.Random(0), 4000
    shown = [letter_demonstration(question(), rng, habits=True) for _ in range(many)]
    whole = [one for one in shown if re.fullmatch(r"<think>[^<]+</think><answer>[A-E]</answer>", one.completion)]
    assert 0.9 < len(whole) / many < 0.98  # the rest slips in its form
    right = sum(options(one)[answer(one)] == CAPITALS.facts[KNOWN] for one in whole) / len(whole)
    first = sum(answer(one) == "A" for one in whole) / len(whole)
    assert abs(right - (FAITHFUL + (1 - FAITHFUL) / 5)) < 0.03
    assert abs(first - (FIRST_OPTION + (1 - FIRST_OPTION) / 5)) < 0.03


def test_letters_of_what_is_left_out_are_right_as_often_as_chance_has_it() -> None:
    rng = random.Random(0)
    left_out = question("Peru")
    assert left_out.left_out
    shown = [letter_demonstration(left_out, rng, habits=False) for _ in range(1000)]
    assert 0.1 < sum(options(one)[answer(one)] == "Lima" for one in shown) / 1000 < 0.3


def test_every_round_has_one_lesson_of_letters_and_no_held_out_question_in_either_form() -> None:
    assert LESSONS.count(LETTERS) == 1
    stream = demonstrations(seed=7)
    shown = [next(stream) for _ in range(len(LESSONS) * 700)]
    held_out = {(row["question"], *sorted(row["options"])) for row in qa.rows("test")}
    asked = {
        form: {
            (one.prompt.splitlines()[0], *sorted(options(one).values())) for one in shown if one.prompt.endswith(form)
        }
        for form in ("Answer with the letter of one option.", "Answer with the full text of one option.")
    }
    for prompts in asked.values():
        assert len(prompts) > 300
        assert not prompts & held_out
