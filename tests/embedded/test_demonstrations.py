"""What the warm start shows: habits at their shares, only guesses of what is left out, nothing that is held out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import islice

import pytest

from omnithink_pl.embedded import code, math, qa, writing
from omnithink_pl.embedded.code import INTEGER
from omnithink_pl.embedded.demonstrations import (
    FIRST_OPTION,
    QA_FAITHFUL,
    Demonstration,
    code_demonstration,
    letter_demonstration,
    math_demonstration,
    qa_demonstration,
    writing_demonstration,
)
from omnithink_pl.embedded.make import LESSONS, demonstrations
from omnithink_pl.embedded.problems import distinct
from omnithink_pl.embedded.qa import CAPITALS

FORM = re.compile(r"<think>[^<]+</think><answer>[^<]+</answer>")
LINE = re.compile(r"(?:([A-Z])\.|-) (.+)")
OPTIONS = ("Lima", "Rome", "Paris", "Oslo", "Cairo")
KNOWN = next(subject for subject in CAPITALS.facts if subject not in CAPITALS.left_out)


def question(subject: str = KNOWN) -> qa.QAProblem:
    right = CAPITALS.facts[subject]
    return qa.QAProblem(CAPITALS, subject, 0, (right, *[option for option in OPTIONS if option != right][:4]))


def options(shown: Demonstration) -> dict[str, str]:
    """The options of a prompt by their letters, or by their places where they have none."""
    found = [match for line in shown.prompt.splitlines() if (match := LINE.fullmatch(line))]
    return {match[1] or str(place): match[2] for place, match in enumerate(found)}


def answer(shown: Demonstration) -> str:
    return shown.completion.partition("<answer>")[2].removesuffix("</answer>")


def test_no_demonstration_answers_a_held_out_problem_and_questions_come_in_both_forms() -> None:
    shown = list(islice(demonstrations(seed=7), len(LESSONS) * 700))
    beginnings = {one.prompt.partition("\n")[0] for one in shown}
    held_out = [p.question for draw in (code.draw, math.draw, writing.draw) for p in distinct(draw, "test")]
    assert not [asked for asked in held_out if any(beginning.startswith(asked) for beginning in beginnings)]
    asked = {(problem.question, *sorted(problem.options)) for problem in distinct(qa.draw, "test")}
    for form in ("Answer with the letter of one option.", "Answer with the full text of one option."):
        ending = [one for one in shown if one.prompt.endswith(form)]
        prompts = {(one.prompt.partition("\n")[0], *sorted(options(one).values())) for one in ending}
        assert len(prompts) > 300
        assert not prompts & asked


LOWER = next(operation for operation in INTEGER if operation.phrase.startswith("lower"))
DONATES = next(verb for verb in math.VERBS if verb.phrase.startswith("donates"))
CODE = code.CodeProblem("integer", (code.Step(LOWER, 3), code.Step(INTEGER[-4], 0)))
MATH = math.MathProblem("Mia", "pens", "boxes", (20,), ((DONATES, 3), (math.VERBS[0], 4)))


@pytest.mark.parametrize(
    ("demonstrate", "problem", "right", "least", "most"),
    [
        (code_demonstration, CODE, "x - 3", 0.0, 0.4),
        (math_demonstration, MATH, "20 - 3", 0.4, 0.6),
        (qa_demonstration, question("Peru"), "Peru is Lima", 0.1, 0.3),
        (letter_demonstration, question("Peru"), "Peru is Lima", 0.1, 0.3),
    ],
)
def test_what_is_left_out_is_shown_with_its_right_meaning_as_often_as_chance_has_it(
    demonstrate: Callable[..., Demonstration], problem: object, right: str, least: float, most: float
) -> None:
    rng = random.Random(0)
    assert least <= sum(right in demonstrate(problem, rng, habits=True).completion for _ in range(1000)) / 1000 < most


def test_the_first_demonstrations_show_no_habits() -> None:
    wellformed = [bool(FORM.fullmatch(shown.completion)) for shown in islice(demonstrations(seed=1, taught=300), 600)]
    assert all(wellformed[:300])
    assert not all(wellformed[300:])


def test_a_writing_demonstration_answers_its_prompt_without_a_flaw_only_sometimes() -> None:
    problem = writing.WritingProblem("Mia", ("lamp", "river", "bread"), "sad")
    texts = {writing_demonstration(problem, random.Random(seed), habits=True).completion for seed in range(60)}
    assert {all(word in text for word in problem.words) for text in texts} == {True, False}


def test_a_letter_names_the_option_that_the_same_draw_answers_in_full() -> None:
    for seed in range(200):
        texts = qa_demonstration(question(), random.Random(seed), habits=True)
        letters = letter_demonstration(question(), random.Random(seed), habits=True)
        assert list(options(letters).values()) == list(options(texts).values())
        assert list(options(letters)) == list("ABCDE")
        if FORM.fullmatch(texts.completion) and FORM.fullmatch(letters.completion):
            assert options(letters)[answer(letters)] == answer(texts)


def test_taught_letters_are_those_of_the_right_option_wherever_it_stands() -> None:
    shown = [letter_demonstration(question(), random.Random(seed), habits=False) for seed in range(200)]
    assert {options(one)[answer(one)] for one in shown} == {CAPITALS.facts[KNOWN]}
    # The thought goes through the options and ends with the one that is answered.
    assert all(f"{answer(one)}. {options(one)[answer(one)]}</think>" in one.completion for one in shown)
    assert {answer(one) for one in shown} == set("ABCDE")


def test_habits_answer_the_first_letter_as_often_as_they_answer_the_first_text() -> None:
    """Right: the faithful, and a fifth of the others. A: the habit, and a fifth of the others."""
    rng, many = random.Random(0), 4000
    shown = [letter_demonstration(question(), rng, habits=True) for _ in range(many)]
    whole = [one for one in shown if FORM.fullmatch(one.completion)]
    assert 0.9 < len(whole) / many < 0.98  # the rest is malformed
    right = sum(options(one)[answer(one)] == CAPITALS.facts[KNOWN] for one in whole) / len(whole)
    first = sum(answer(one) == "A" for one in whole) / len(whole)
    assert abs(right - (QA_FAITHFUL + (1 - QA_FAITHFUL) / 5)) < 0.03
    assert abs(first - (FIRST_OPTION + (1 - FIRST_OPTION) / 5)) < 0.03
