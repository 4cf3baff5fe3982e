"""The four training sets: which rows are kept, what an example is, and how a bad row is named."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.embedded import EmbeddedCode, EmbeddedMath, EmbeddedQA, EmbeddedWriting
from omnithink_pl.embedded.make import CONTEXT
from omnithink_pl.errors import BadInput
from omnithink_pl.sources import CodeR1, CreativeWritingShareGPT, Curation, OpenR1Math, SuperGPQA
from omnithink_pl.types import Example, Options
from tests.sources.copies import Rows, code_rows, math_rows, qa_rows, write, writing_rows

SOURCES: list[tuple[Any, Any, Any]] = [
    (CodeR1, code_rows, EmbeddedCode),
    (OpenR1Math, math_rows, EmbeddedMath),
    (SuperGPQA, qa_rows, EmbeddedQA),
    (CreativeWritingShareGPT, writing_rows, EmbeddedWriting),
]


def kept(report: Any) -> dict[str, tuple[int, int]]:
    return {step["filter"]: (step["before"], step["after"]) for step in report.steps if step["split"] == "train"}


@pytest.mark.parametrize(("source", "rows", "problems"), SOURCES)
def test_rows_of_the_real_schema_become_the_examples_that_they_were_made_from(
    source: Any, rows: Any, problems: Any, tmp_path: Path, curation: Curation
) -> None:
    for split, count in (("train", 30), ("test", 10)):
        write(tmp_path / "copy" / f"{split}.jsonl", rows(split, count))
    found = source(str(tmp_path / "copy"), curation=replace(curation, held_out=256))
    seen: set[object] = set()
    for split, count in (("test", 10), ("train", 30)):  # what is held out is not trained on
        rows_made = problems().examples("t", split)[:count]
        assert found.examples("t", split) == [
            one for one in rows_made if not (asked(one) in seen or seen.add(asked(one)))
        ]
    assert len(seen) > 25


def asked(example: Example) -> object:
    """What only repetitions share: of options, the question and the right one."""
    return example.question, example.reference.answers if isinstance(example.reference, Options) else ""


VISUAL = """What is the area of ![](https://cdn.mathpix.com/x.jpg)?
See <img src="a.png"> and add.
\\includegraphics{a} What is x?
[asy] draw((0,0)--(1,1)); [/asy] Find AB.
In the figure shown, find the angle.
Find x in the diagram below.
The table is at www.example.org; how much is it?
As shown in the figure, AB = 3.""".splitlines()
NOT_VISUAL = [
    "How many figures does 1234 have?",
    "A picture frame costs 5. How much are 2?",
    "Graph theory: 2 + 2?",
]


def test_openr1_keeps_word_problems_that_need_no_picture(tmp_path: Path, curation: Curation) -> None:
    (row,) = math_rows("train", 1)
    rows = [row | {"problem": text, "uuid": f"u{i}"} for i, text in enumerate(VISUAL + NOT_VISUAL)]
    rows += [row | {"problem": kind, "question_type": kind, "uuid": kind} for kind in ("MCQ", "proof", "other")]
    source = OpenR1Math(write(tmp_path / "rows.jsonl", rows), curation=curation)
    assert [e.question for e in source.examples("math", "train")] == NOT_VISUAL
    report = source.prepare()
    assert (kept(report)["not a word problem"], kept(report)["needs a picture"]) == ((14, 11), (11, 3))


def test_openr1_drops_golds_that_are_empty_or_cannot_be_read_and_names_them(tmp_path: Path, curation: Curation) -> None:
    golds = ["17", "\\frac{3}{4}", "", "  ", "x^2+", "B", "\\text{even}", "(1,2)", None, "\\begin{cases"]
    rows = [row | {"answer": gold} for row, gold in zip(math_rows("train", len(golds)), golds, strict=True)]
    source = OpenR1Math(write(tmp_path / "rows.jsonl", rows), curation=replace(curation, bad_rows="drop"))
    references = [example.reference for example in source.examples("math", "train")]
    assert {"17", "\\frac{3}{4}", "B", "\\text{even}", "(1,2)"} <= set(references)
    assert not {"", "x^2+", "\\begin{cases"} & set(references)
    report = source.prepare()
    assert kept(report)["no usable reference"] == (10, 7)
    assert {entry["row"] for entry in report.dropped} >= {2, 3, 8, 9}
    unparseable = write(tmp_path / "bad.jsonl", [rows[9]])
    with pytest.raises(BadInput, match=r"OpenR1Math\(.*row 0 \(uid .*'answer'.*begin.*set curation\.bad_rows to drop"):
        OpenR1Math(unparseable, curation=curation).examples("math", "train")


def test_code_r1_replaces_the_system_prompt_and_drops_prompts_of_too_many_tokens(
    tmp_path: Path, curation: Curation
) -> None:
    short, long = code_rows("train", 2)
    long["prompt"][1]["content"] = "word " * CONTEXT
    file = write(tmp_path / "rows.jsonl", [short, long])
    limited = replace(curation, max_prompt_tokens=60)
    source = CodeR1(file, curation=replace(limited, tokenizer="embedded"))
    assert [e.question for e in source.examples("code", "train")] == [short["prompt"][1]["content"]]
    with pytest.raises(BadInput, match=r"CodeR1.*max_prompt_tokens needs curation\.tokenizer; name the policy"):
        CodeR1(file, curation=limited).examples("code", "train")


def test_supergpqa_is_sampled_in_proportion_to_its_disciplines(tmp_path: Path, curation: Curation) -> None:
    rows = qa_rows("train", 100)
    for i, (row, name) in enumerate(zip(rows, ["Science"] * 60 + ["Law"] * 30 + ["History"] * 10, strict=True)):
        row |= {"discipline": name, "uuid": f"{name}{i}", "question": f"{row['question']} ({i})"}
    random.Random(0).shuffle(rows)
    source = SuperGPQA(write(tmp_path / "rows.jsonl", rows), curation=replace(curation, rows=50, held_out=10))
    assert len(source.examples("qa", "train")) == 50
    assert source.prepare().categories == {"Science": 30, "Law": 15, "History": 5}
    held_out = {e.uid for e in source.examples("qa", "test")}
    assert sorted(uid.rstrip("0123456789") for uid in held_out) == ["History"] + ["Law"] * 3 + ["Science"] * 6
    assert not held_out & {e.uid for e in source.examples("qa", "train")}


def test_a_question_is_another_one_if_another_option_is_right(tmp_path: Path, curation: Curation) -> None:
    first, other = qa_rows("train", 2)
    same = first | {"uuid": "same", "options": [*first["options"], "none"]}
    new = first | {"uuid": "new", "answer": next(text for text in first["options"] if text != first["answer"])}
    source = SuperGPQA(write(tmp_path / "rows.jsonl", [first, same, new, other]), curation=curation)
    assert [e.uid for e in source.examples("qa", "train")] == [first["uuid"], "new", other["uuid"]]


def test_writing_keeps_one_turn_whatever_the_speakers_are_called(tmp_path: Path, curation: Curation) -> None:
    rows = writing_rows("train", 5)
    rows[1]["conversations"][0]["from"], rows[1]["conversations"][1]["from"] = "user", "assistant"
    rows[2]["conversations"].insert(0, {"from": "system", "value": "You are a poet."})
    rows[3]["conversations"] += rows[4]["conversations"]
    rows[4]["conversations"].reverse()
    source = CreativeWritingShareGPT(write(tmp_path / "r.jsonl", rows), curation=curation)
    turns = [tuple(turn["value"] for turn in row["conversations"][-2:]) for row in rows[:3]]
    assert [(e.question, e.reference) for e in source.examples("writing", "train")] == turns


def truth(text: str) -> dict[str, dict[str, str]]:
    return {"reward_model": {"ground_truth": text, "style": "rule"}}


SILENT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": " "}]}


@pytest.mark.parametrize(
    ("source", "rows", "change", "column"),
    [
        (OpenR1Math, math_rows, {"answer": "  "}, "answer"),
        (OpenR1Math, math_rows, {"problem": None}, "problem"),
        (SuperGPQA, qa_rows, {"answer": "none of these"}, "answer"),
        (SuperGPQA, qa_rows, {"options": ["Lima", None], "answer": "Lima"}, "options"),
        (SuperGPQA, qa_rows, {"options": ["Lima", "Lima"], "answer": "Lima"}, "options"),
        (SuperGPQA, qa_rows, {"options": None}, "options"),
        (CreativeWritingShareGPT, writing_rows, SILENT, "conversations"),
        (CodeR1, code_rows, {"prompt": None}, "prompt"),
        (CodeR1, code_rows, {"reward_model": None}, "ground_truth"),
        *(
            (CodeR1, code_rows, truth(text), r"reward_model\.ground_truth")
            for text in ("{}", "assert", "[]", "null", '{"functional": ""}', '{"inputs": [], "outputs": []}')
        ),
        (CodeR1, code_rows, truth('{"inputs": ["1"], "outputs": []}'), "ground_truth"),
        (CodeR1, code_rows, truth('{"inputs": ["1"]}'), "ground_truth"),
        (CodeR1, code_rows, truth('{"functional": "check(f"}'), r"functional tests do not compile .*line 1"),
    ],
)
def test_a_row_without_a_usable_reference_is_named_with_its_column_and_a_cure_or_dropped(
    source: Any, rows: Any, change: dict[str, Any], column: str, tmp_path: Path, curation: Curation
) -> None:
    good, bad = rows("train", 2)
    found: Rows = [good, bad | change]
    file = write(tmp_path / "train.jsonl", found)
    with pytest.raises(BadInput, match=rf"{source.__name__}\(.*row 1 .*line 2: .*{column}.*(drop|correct|give)"):
        source(file, curation=curation).examples("t", "train")
    assert len(source(file, curation=replace(curation, bad_rows="drop")).examples("t", "train")) == 1
