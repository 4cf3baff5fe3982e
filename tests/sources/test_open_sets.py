"""GSM8K, MBPP, MMLU and GPTeacher Roleplay: what an example is, what is left out, and how a bad row is named."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.sources import GSM8K, MBPP, MMLU, Curation, GPTeacherRoleplay
from omnithink_pl.tasks import QA
from omnithink_pl.types import Options
from tests.sources.copies import Rows, write
from tests.sources.hub import card, fake_hub


def gsm8k_row(number: int = 0, gold: str = "18") -> dict[str, Any]:
    return {"question": f"Ann has {number} pens. How many?", "answer": f"It is <<9*2=18>>18.\n#### {gold}"}


def mbpp_row(number: int = 601, name: str = "double") -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Write a function to double a number, take {number}.",
        "code": f"def helper(x):\r\n  return x\r\ndef {name}(x):\r\n  return 2 * helper(x)",
        "test_list": [f"assert {name}(2) == 4", f"assert {name}(5) == 10", f"assert set([{name}(0)]) == set([0])"],
        "test_setup_code": "",
        "challenge_test_list": [f"assert {name}(-7) == -14"],
    }


def mmlu_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "question": f"Which is the capital of land {number}?",
        "subject": "geography",
        "choices": ["Lima", "Rome", "Oslo", "Bern"],
        "answer": 2,
    } | changes


def roleplay_row(number: int = 0, given: str = "") -> dict[str, Any]:
    return {"instruction": f"Pretend to be king {number}.", "input": given, "response": "I am the king."}


SOURCES: list[tuple[Any, Any]] = [
    (GSM8K, gsm8k_row),
    (MBPP, mbpp_row),
    (MMLU, mmlu_row),
    (GPTeacherRoleplay, roleplay_row),
]


@pytest.mark.parametrize(("source", "row"), SOURCES)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_held_out_rows_are_no_training_rows(
    source: Any, row: Any, suffix: str, tmp_path: Path, curation: Curation
) -> None:
    file = write(tmp_path / f"rows.{suffix}", [row(601 + i) for i in range(40)])
    found = source(file, curation=replace(curation, held_out=8))
    train, test = ({e.uid for e in found.examples("t", split)} for split in ("train", "test"))
    assert (len(train), len(test), len(train & test)) == (32, 8, 0)


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("18", "18"),
        ("1,234,500", "1234500"),
        ("-7", "-7"),
        ("$5", "5"),
        ("3.50.", "3.50"),
        ("2/3", "2/3"),
        ("9%", "9%"),
    ],
)
def test_the_gold_of_gsm8k_stands_behind_the_hashes_without_separators(
    written: str, gold: str, tmp_path: Path, curation: Curation
) -> None:
    (found,) = GSM8K(write(tmp_path / "rows.jsonl", [gsm8k_row(gold=written)]), curation=curation).examples(
        "m", "train"
    )
    assert (found.question, found.reference) == ("Ann has 0 pens. How many?", gold)


def mbpp(rows: Rows, tmp_path: Path, curation: Curation) -> Any:
    return MBPP(write(tmp_path / "rows.jsonl", rows), curation=curation)


def test_mbpp_says_nothing_of_odd_escapes_in_its_programs(
    tmp_path: Path, curation: Curation, recwarn: pytest.WarningsRecorder
) -> None:
    row = mbpp_row()
    odd = row | {"code": row["code"] + "\nODD = '\\w'\n", "test_list": [*row["test_list"], "assert '\\w'"]}
    assert len(list(mbpp([odd], tmp_path, curation).examples("code", "train"))) == 1
    assert not recwarn.list


def test_mbpp_shows_one_test_and_an_answer_that_returns_what_it_has_seen_fails(
    tmp_path: Path, curation: Curation
) -> None:
    named_as_builtin = mbpp_row(602, "sum")
    plain, builtin = mbpp([mbpp_row(), named_as_builtin], tmp_path, curation).examples("code", "train")
    assert "assert double(2) == 4" in plain.question
    assert not any(hidden in plain.question for hidden in ("double(5)", "double(0)", "double(-7)"))
    assert (plain.reference.entry_point, builtin.reference.entry_point) == ("double", "sum")
    seen = "def double(x):\n    return 4"
    sandbox = HardenedSandbox(workers=1)
    programs = [mbpp_row()["code"], seen, named_as_builtin["code"], seen]
    verdicts = sandbox.run_all(
        list(zip(programs, [plain.reference] * 2 + [builtin.reference] * 2, strict=True))  # sum is no builtin here
    )
    sandbox.close()
    assert [verdict.passed for verdict in verdicts] == [True, False, True, False]


def test_the_function_to_write_is_the_one_that_the_reference_program_defines(
    tmp_path: Path, curation: Curation
) -> None:
    nested = mbpp_row() | {"test_list": ["assert set(double(x) for x in [1]) == {2}", "assert double(2) == 4"]}
    (found,) = mbpp([nested], tmp_path, curation).examples("code", "train")
    assert found.reference.entry_point == "double"


def test_the_official_test_rows_of_mbpp_are_held_out_unless_there_are_no_others(
    tmp_path: Path, curation: Curation
) -> None:
    rows = [mbpp_row(number) for number in (*range(1, 31), *range(500, 521))]
    random.Random(0).shuffle(rows)
    found = mbpp(rows, tmp_path, replace(curation, held_out=100))
    train, test = (sorted(int(e.uid) for e in found.examples("code", split)) for split in ("train", "test"))
    assert train == [*range(1, 11), *range(511, 521)]
    assert test == [*range(11, 31), *range(500, 511)]
    few = mbpp([mbpp_row(number) for number in range(11, 31)], tmp_path, replace(curation, held_out=100))
    assert (len(few.examples("code", "train")), len(few.examples("code", "test"))) == (16, 4)


STANDING = [
    "None of these",
    "Nearly all of it",
    "The pH is below 7",
    "A",
    "AB",
    "All of them",
    "A. thaliana and B. napus",
    "P(A) + P(B)",
    "P (A)",
    "Vitamin (C)",
    "Adenine (A) pairs with thymine (T)",
    "(D) I and II",
]
NAMING = [
    *("A and B", "Both A and C", "either A or B.", "A, B, and C", "(A), (B), and (C)", "B and C only", "A B and C"),
    *("All of the above", "none of above.", "Moons contribute to all of the above.", "Any 2 of the above values"),
    *("Both (a) and (b)", "neither (a) nor (b).", "Use the method in (A), but hotter"),
]


def test_questions_of_mmlu_whose_options_name_others_are_left_out(tmp_path: Path, curation: Curation) -> None:
    rows = [mmlu_row(i, choices=["x", "y", "z", text]) for i, text in enumerate([*STANDING, *NAMING])]
    found = MMLU(write(tmp_path / "rows.jsonl", rows), curation=curation)
    assert [e.reference.texts[3] for e in found.examples("qa", "train")] == STANDING
    (step,) = [s for s in found.prepare().steps if s["filter"] == "an option names others"]
    assert (step["before"], step["after"]) == (len(rows), len(STANDING))


def test_a_question_that_is_held_out_is_not_trained_under_other_wrong_options(
    tmp_path: Path, curation: Curation
) -> None:
    held_out = mmlu_row(choices=["x", "y", "Oslo", "z"])
    same = held_out | {"choices": ["x", "Oslo", "w"], "answer": 1}
    other = held_out | {"choices": ["x", "y", "Oslo"], "answer": 0}  # "Which is true?" asks something else each time
    write(tmp_path / "copy" / "test.jsonl", [held_out])
    write(tmp_path / "copy" / "train.jsonl", [same, other])
    source = MMLU(str(tmp_path / "copy"), curation=replace(curation, held_out=1))
    assert [e.reference.texts for e in source.examples("qa", "train")] == [("x", "y", "Oslo")]


def test_rows_that_differ_in_an_operator_are_no_repetition(tmp_path: Path, curation: Curation) -> None:
    rows = [mmlu_row(question=f"What is 7 {sign} 2 worth?") for sign in ("+", "-", "*", "<")]
    rows.append(mmlu_row(question="what is 7+2 worth"))
    source = MMLU(write(tmp_path / "rows.jsonl", rows), curation=curation)
    assert [e.question.split()[3] for e in source.examples("qa", "train")] == ["+", "-", "*", "<"]


@pytest.mark.parametrize("answer", [2, "2", "C"])
def test_the_answer_of_mmlu_is_a_place_and_the_prompt_has_no_letters(
    answer: int | str, tmp_path: Path, curation: Curation
) -> None:
    source = MMLU(write(tmp_path / "rows.jsonl", [mmlu_row(answer=answer)]), curation=curation)
    (found,) = QA(source).examples("train", seed=0)
    assert isinstance(found.reference, Options)
    assert found.reference.answers == ("Oslo",)
    assert sorted(found.reference.texts) == ["Bern", "Lima", "Oslo", "Rome"]
    asked = found.messages[-1]["content"]
    assert all(f"- {text}\n" in asked for text in found.reference.texts)
    assert not any(mark in asked for mark in ("A.", "A)", "(A", "1."))


def test_a_repeated_option_is_shown_once(tmp_path: Path, curation: Curation) -> None:
    row = mmlu_row(choices=["Oslo", "Rome", "Oslo", "Rome"])
    (found,) = MMLU(write(tmp_path / "rows.jsonl", [row]), curation=curation).examples("qa", "train")
    assert found.reference == Options(("Oslo", "Rome"), ("Oslo",))


def test_a_roleplay_prompt_is_the_instruction_with_its_input(tmp_path: Path, curation: Curation) -> None:
    file = write(tmp_path / "rows.jsonl", [roleplay_row(), roleplay_row(1, "The throne is empty.")])
    first, second = GPTeacherRoleplay(file, curation=curation).examples("writing", "train")
    assert (first.question, first.reference) == ("Pretend to be king 0.", "I am the king.")
    assert second.question == "Pretend to be king 1.\n\nThe throne is empty."


NODES = {"code": "class Node: ...\ndef double(x): ...", "test_setup_code": "root = Node(1)"}


@pytest.mark.parametrize(
    ("source", "row", "change", "column"),
    [
        (GSM8K, gsm8k_row, {"question": " "}, "question"),
        (GSM8K, gsm8k_row, {"answer": "It is 18."}, "answer"),
        (GSM8K, gsm8k_row, {"answer": "#### many"}, "answer"),
        (MBPP, mbpp_row, {"text": None}, "text"),
        (MBPP, mbpp_row, {"test_list": []}, "test_list"),
        (MBPP, mbpp_row, {"test_list": ["assert double(2 == 4"]}, "test_list.*no Python"),
        (MBPP, mbpp_row, {"test_list": ["assert halve(2) == 1"]}, "test_list.*calls nothing"),
        (MBPP, mbpp_row, NODES, "test_setup_code"),
        (MMLU, mmlu_row, {"question": None}, "question"),
        (MMLU, mmlu_row, {"choices": ["Lima", "", "Oslo", "Bern"]}, "choices"),
        (MMLU, mmlu_row, {"choices": ["Lima", "Lima", "Lima"]}, "choices"),
        (MMLU, mmlu_row, {"answer": 4}, "answer"),
        (MMLU, mmlu_row, {"answer": -1}, "answer"),
        (GPTeacherRoleplay, roleplay_row, {"instruction": ""}, "instruction"),
        (GPTeacherRoleplay, roleplay_row, {"response": None}, "response"),
    ],
)
def test_a_row_without_a_usable_reference_is_named_with_file_column_and_cure_or_dropped(
    source: Any, row: Any, change: dict[str, Any], column: str, tmp_path: Path, curation: Curation
) -> None:
    file = write(tmp_path / "train.jsonl", [row(601), row(602) | change])
    with pytest.raises(
        BadInput, match=rf"{source.__name__}\({file}\): row 1 .*line 2: .*{column}.*(drop|correct|give)"
    ):
        source(file, curation=curation).examples("t", "train")
    assert len(source(file, curation=replace(curation, bad_rows="drop")).examples("t", "train")) == 1


def test_mmlu_trains_on_the_split_that_the_hub_has_for_it_and_any_local_copy_needs_the_path_alone(
    tmp_path: Path, curation: Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, plain = tmp_path / "hub", tmp_path / "plain"
    splits = {"test": range(20, 30), "auxiliary_train": range(20), "dev": range(40, 43)}
    for name, numbers in splits.items():
        write(hub / f"all/{name}-00000-of-00001.parquet", [mmlu_row(i) for i in numbers])
    write(hub / "law/test-00000-of-00001.parquet", [mmlu_row(99)])
    (hub / "README.md").write_text(card(all={name: f"all/{name}-*" for name in splits}, law={"test": "law/test-*"}))
    for name, numbers in {"test": range(20, 30), "train": range(20)}.items():
        write(plain / f"{name}.jsonl", [mmlu_row(i) for i in numbers])
    settings: dict[str, Any] = {"config": "all", "curation": replace(curation, held_out=100)}
    with fake_hub({"cais/mmlu": hub}, monkeypatch):
        sources = [MMLU(path, **settings) for path in ("cais/mmlu", str(hub), str(hub / "all"), str(plain))]
        rows = [[source.examples("qa", split) for split in ("train", "test")] for source in sources]
    assert [len(found) for found in rows[0]] == [20, 10]
    assert rows == [rows[0]] * 4


def test_long_questions_are_dropped_without_a_tokenizer(tmp_path: Path, curation: Curation) -> None:
    long = mmlu_row(1, question="Read this. " * 40)
    file = write(tmp_path / "rows.jsonl", [mmlu_row(), long])
    found = MMLU(file, curation=replace(curation, max_prompt_characters=200))
    assert [e.question for e in found.examples("qa", "train")] == [mmlu_row()["question"]]
