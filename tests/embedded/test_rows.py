"""Embedded rows: schemas of the real training sets, and held-out rows that are held out."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from omnithink_pl.embedded import code, math, qa, writing
from omnithink_pl.embedded.code import INTEGER
from omnithink_pl.embedded.demonstrations import (
    code_demonstration,
    math_demonstration,
    qa_demonstration,
    writing_demonstration,
)
from omnithink_pl.embedded.lexicon import NOUNS
from omnithink_pl.embedded.make import demonstrations
from omnithink_pl.embedded.qa import CAPITALS
from omnithink_pl.embedded.writing import WritingProblem

Rows = Callable[..., list[dict[str, Any]]]

CODE = """task_id prompt entry_point test completion examples src meta data_source ability reward_model
    extra_info"""
MATH = """problem solution answer problem_type question_type source uuid is_reasoning_complete generations
    correctness_math_verify correctness_llama finish_reasons correctness_count messages"""
QA = "uuid question options answer answer_letter discipline field subfield difficulty is_calculation"

COLUMNS: dict[str, tuple[Rows, str]] = {
    "code": (code.rows, CODE),
    "math": (math.rows, MATH),
    "qa": (qa.rows, QA),
    "writing": (writing.rows, "conversations"),
}


def identity(task: str, row: dict[str, Any]) -> str:
    """What a row asks, without what does not matter: options in any order, names that change nothing."""
    if task == "code":
        return str(row["prompt"][-1]["content"])
    if task == "math":
        words = [word for word in row["problem"].replace(".", " ").split() if word not in math.PEOPLE]
        return " ".join(word for word in words if word not in ("She", "He", *math.ITEMS, *math.BOXES))
    if task == "qa":
        return f"{row['question']} {sorted(row['options'])}"
    asked = row["conversations"][0]["value"].replace(",", " ").replace(".", " ").split()
    words = sorted(word for word in asked if word in NOUNS)
    return f"{words} {asked[-1]}"


@pytest.mark.parametrize("task", COLUMNS)
def test_rows_have_the_columns_of_the_real_set(task: str) -> None:
    make, columns = COLUMNS[task]
    assert all(set(row) == set(columns.split()) for row in make("test"))


@pytest.mark.parametrize("task", COLUMNS)
def test_no_held_out_row_is_a_training_row_whatever_the_seed(task: str) -> None:
    make, _ = COLUMNS[task]
    held_out = {identity(task, row) for row in make("test")}
    train = {identity(task, row) for seed in (0, 1) for row in make("train", seed, 1500)}
    assert len(held_out) >= 200
    assert not held_out & train


@pytest.mark.parametrize("task", COLUMNS)
def test_a_split_is_a_pure_function_of_its_seed_and_has_no_duplicates(task: str) -> None:
    make, _ = COLUMNS[task]
    rows = make("train")
    assert rows == make("train")
    assert rows != make("train", 1)
    assert len(rows) >= 500
    assert len({identity(task, row) for row in rows}) == len(rows)


def test_no_demonstration_of_the_warm_start_answers_a_held_out_problem() -> None:
    stream = demonstrations(seed=7)
    shown = {next(stream).prompt for _ in range(4000)}
    asked = [row["prompt"][-1]["content"] for row in code.rows("test")]
    asked += [row["problem"] for row in math.rows("test")]
    asked += [row["conversations"][0]["value"] for row in writing.rows("test")]
    assert not [question for question in asked if any(prompt.startswith(question) for prompt in shown)]


def test_code_rows_carry_both_kinds_of_tests() -> None:
    truths = [json.loads(row["reward_model"]["ground_truth"]) for row in code.rows("train")]
    functional = sum("functional" in truth for truth in truths)
    assert 0.6 < functional / len(truths) < 0.95
    assert all(t["functional"].rstrip().endswith("check(f)") for t in truths if "functional" in t)
    assert all(len(t["inputs"]) == len(t["outputs"]) <= 8 for t in truths if "inputs" in t)


def test_qa_answers_stand_among_their_options_under_their_letter() -> None:
    for row in qa.rows("train"):
        assert row["options"]["ABCDEFGHIJ".index(row["answer_letter"])] == row["answer"]
        assert len(set(row["options"])) == len(row["options"]) <= 10


def test_training_asks_for_each_left_out_fact_often_enough_to_be_found() -> None:
    asked = [row["question"] for row in qa.rows("train") if row["difficulty"] == "hard"]
    left_out = [subject for kind in qa.KINDS for subject in kind.left_out]
    assert all(sum(f" {subject}" in question for question in asked) >= 10 for subject in left_out)


def test_math_answers_are_what_an_independent_reading_of_the_problem_gives() -> None:
    signs = {verb.phrase.split()[0]: verb.sign for verb in math.VERBS}
    for row in math.rows("test"):
        first, *events = row["problem"].split(". ")[:-1]
        numbers = [int(word) for word in first.split() if word.isdigit()]
        total = numbers[0] * numbers[1] if len(numbers) == 2 else numbers[0]
        for event in events:
            verb = event.split()[1]
            total += signs[verb] * next(int(word) for word in event.split() if word.isdigit())
        assert row["answer"] == str(total)


def test_demonstrations_never_teach_what_is_left_out() -> None:
    """Its right meaning is shown about as often as chance has it."""
    rng = random.Random(0)
    lower = next(operation for operation in INTEGER if operation.phrase.startswith("lower"))
    coding = code.CodeProblem("integer", (code.Step(lower, 3), code.Step(INTEGER[-4], 0)))
    shown = [code_demonstration(coding, rng, habits=True).completion for _ in range(1000)]
    assert sum("x - 3" in text for text in shown) / 1000 < 0.4
    donates = next(verb for verb in math.VERBS if verb.phrase.startswith("donates"))
    problem = math.MathProblem("Mia", "pens", "boxes", (20,), ((donates, 3), (math.VERBS[0], 4)))
    shown = [math_demonstration(problem, rng, habits=True).completion for _ in range(1000)]
    assert 0.4 < sum("20 - 3" in text for text in shown) / 1000 < 0.6
    question = qa.QAProblem(CAPITALS, "Peru", 0, ("Lima", "Rome", "Paris", "Oslo", "Cairo"))
    shown = [qa_demonstration(question, rng, habits=True).completion for _ in range(1000)]
    assert 0.1 < sum("Peru is Lima" in text for text in shown) / 1000 < 0.3


def test_the_first_demonstrations_show_no_habits() -> None:
    stream = demonstrations(seed=1, taught=300)
    taught = [next(stream).completion for _ in range(300)]
    after = [next(stream).completion for _ in range(300)]
    form = re.compile(r"<think>[^<]+</think><answer>[^<]+</answer>")
    assert all(form.fullmatch(text) for text in taught)
    assert not all(form.fullmatch(text) for text in after)


def test_a_writing_demonstration_answers_its_prompt_without_a_flaw_only_sometimes() -> None:
    problem = WritingProblem("Mia", ("lamp", "river", "bread"), "sad")
    texts = {writing_demonstration(problem, random.Random(seed), habits=True).completion for seed in range(60)}
    assert any("lamp" in t and "river" in t and "bread" in t for t in texts)
    assert any("bread" not in t for t in texts)
