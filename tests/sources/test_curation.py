"""Curation: filters with counts, a draw that is a function of its seed, and traps of the real data sets."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.embedded import code, math, qa, writing
from omnithink_pl.embedded.make import CONTEXT
from omnithink_pl.errors import BadInput
from omnithink_pl.sources import Benchmark, CodeR1, CreativeWritingShareGPT, Curation, OpenR1Math, SuperGPQA
from omnithink_pl.sources.curation import shares
from omnithink_pl.types import UnitTests

Rows = list[dict[str, Any]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    return str(tmp_path / "curated")


def write(file: Path, rows: Rows) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def left(report: Any) -> dict[str, tuple[int, int]]:
    return {step["filter"]: (step["before"], step["after"]) for step in report.steps if step["split"] == "train"}


VISUAL = [
    "What is the area of ![](https://cdn.mathpix.com/x.jpg)?",
    'See <img src="a.png"> and add.',
    "\\includegraphics{a} What is x?",
    "[asy] draw((0,0)--(1,1)); [/asy] Find AB.",
    "In the figure shown, find the angle.",
    "Find x in the diagram below.",
    "The table is at www.example.org; how much is it?",
    "As shown in the figure, AB = 3.",
]
NOT_VISUAL = [
    "How many figures does 1234 have?",
    "A picture frame costs 5 dollars. How much are 2?",
    "Graph theory: 2 + 2?",
]


def math_rows(problems: list[str], **changes: Any) -> Rows:
    (row,) = math.rows("train", 0, 1)
    return [row | {"problem": text, "uuid": f"u{i}", **changes} for i, text in enumerate(problems)]


def test_openr1_keeps_word_problems_that_need_no_picture(tmp_path: Path, cache: str) -> None:
    rows = math_rows(VISUAL + NOT_VISUAL) + [
        row | {"uuid": f"k{kind}"}
        for kind in ("MCQ", "proof", "other")
        for row in math_rows([f"A {kind} problem"], question_type=kind)
    ]
    source = OpenR1Math(write(tmp_path / "rows.jsonl", rows), curation=Curation(cache=cache, held_out=0))
    assert [e.question for e in source.examples("math", "train")] == NOT_VISUAL
    report = source.prepare()
    assert left(report)["not a word problem"] == (14, 11)
    assert left(report)["needs a picture"] == (11, 3)


def test_openr1_drops_golds_that_are_empty_or_not_equal_to_themselves_and_names_them(
    tmp_path: Path, cache: str
) -> None:
    golds = ["17", "\\frac{3}{4}", "", "  ", "x^2+", "B", "\\text{even}", "(1,2)", None, "\\begin{cases"]
    rows = [row | {"answer": gold} for row, gold in zip(math.rows("train", 0, len(golds)), golds, strict=True)]
    file = write(tmp_path / "rows.jsonl", rows)
    source = OpenR1Math(file, curation=Curation(cache=cache, held_out=0, bad_rows="drop"))
    kept = [example.reference for example in source.examples("math", "train")]
    assert kept[:2] == ["17", "\\frac{3}{4}"]
    assert {"B", "\\text{even}", "(1,2)"} <= set(kept)
    assert not {"", "\\begin{cases"} & set(kept)
    report = source.prepare()
    assert left(report)["no usable reference"] == (10, 7)
    assert {entry["row"] for entry in report.dropped} >= {2, 3, 8, 9}
    unparseable = write(tmp_path / "bad.jsonl", [rows[9]])
    with pytest.raises(BadInput, match=r"OpenR1Math\(.*row 0 \(uid .*'answer'.*begin.*set curation\.bad_rows to drop"):
        OpenR1Math(unparseable, curation=Curation(cache=cache)).examples("math", "train")


def test_code_r1_reads_both_kinds_of_tests_and_replaces_the_system_prompt(tmp_path: Path, cache: str) -> None:
    rows = code.rows("train", 0, 40)
    source = CodeR1(write(tmp_path / "rows.jsonl", rows), curation=Curation(cache=cache, held_out=0))
    examples = source.examples("code", "train")
    assert examples == [source.example("code", row) for row in rows]
    kinds = {bool(e.reference.functional) for e in examples if isinstance(e.reference, UnitTests)}
    assert kinds == {True, False}
    assert not any("helpful programming assistant" in e.question for e in examples)


def test_code_r1_drops_prompts_of_too_many_tokens_of_the_policy(tmp_path: Path, cache: str) -> None:
    short, long = code.rows("train", 0, 2)
    long["prompt"][1]["content"] = "word " * CONTEXT
    file = write(tmp_path / "rows.jsonl", [short, long])
    limits = {"cache": cache, "held_out": 0, "max_prompt_tokens": 60}
    source = CodeR1(file, curation=Curation(**limits, tokenizer="embedded"))
    assert [e.uid for e in source.examples("code", "train")] == [short["task_id"]]
    with pytest.raises(BadInput, match=r"CodeR1.*max_prompt_tokens needs curation\.tokenizer; name the policy"):
        CodeR1(file, curation=Curation(**limits)).examples("code", "train")


@pytest.mark.parametrize(
    "truth", ['{"functional": ""}', '{"inputs": [], "outputs": []}', '{"inputs": ["1"]}', "[]", "null", "assert"]
)
def test_code_r1_counts_or_refuses_a_row_without_tests(truth: str, tmp_path: Path, cache: str) -> None:
    good, bad = code.rows("train", 0, 2)
    bad["reward_model"]["ground_truth"] = truth
    file = write(tmp_path / "rows.jsonl", [good, bad])
    with pytest.raises(BadInput, match=r"CodeR1\(.*row 1 \(uid .*reward_model\.ground_truth.*drop the row"):
        CodeR1(file, curation=Curation(cache=cache)).examples("code", "train")
    source = CodeR1(file, curation=Curation(cache=cache, held_out=0, bad_rows="drop"))
    assert [e.uid for e in source.examples("code", "train")] == [good["task_id"]]


def test_supergpqa_is_drawn_in_proportion_to_its_disciplines(tmp_path: Path, cache: str) -> None:
    rows = [
        row | {"discipline": name, "uuid": f"{name}{i}"}
        for name, count in (("Science", 60), ("Law", 30), ("History", 10))
        for i, row in enumerate(qa.rows("train", count, count))
    ]
    random.Random(0).shuffle(rows)
    source = SuperGPQA(write(tmp_path / "rows.jsonl", rows), curation=Curation(cache=cache, rows=50, held_out=10))
    assert len(source.examples("qa", "train")) == 50
    assert source.prepare().categories == {"Science": 30, "Law": 15, "History": 5}
    held_out = {e.uid for e in source.examples("qa", "test")}
    assert sorted(uid.rstrip("0123456789") for uid in held_out) == ["History"] + ["Law"] * 3 + ["Science"] * 6
    assert not held_out & {e.uid for e in source.examples("qa", "train")}


def test_questions_that_differ_in_their_options_are_not_the_same_question(tmp_path: Path, cache: str) -> None:
    first, other = qa.rows("train", 0, 2)
    rows = [first, first | {"uuid": "again"}, first | {"uuid": "new", "options": [*first["options"], "none"]}, other]
    source = SuperGPQA(write(tmp_path / "rows.jsonl", rows), curation=Curation(cache=cache, held_out=0))
    assert [e.uid for e in source.examples("qa", "train")] == [first["uuid"], "new", other["uuid"]]


def test_writing_keeps_one_turn_whatever_the_speakers_are_called(tmp_path: Path, cache: str) -> None:
    rows = writing.rows("train", 0, 5)
    rows[1]["conversations"][0]["from"], rows[1]["conversations"][1]["from"] = "user", "assistant"
    rows[2]["conversations"].insert(0, {"from": "system", "value": "You are a poet."})
    rows[3]["conversations"] += rows[4]["conversations"]
    rows[4]["conversations"].reverse()
    source = CreativeWritingShareGPT(write(tmp_path / "r.jsonl", rows), curation=Curation(cache=cache, held_out=0))
    examples = source.examples("writing", "train")
    assert [e.question for e in examples] == [rows[i]["conversations"][-2]["value"] for i in range(3)]
    assert [e.reference for e in examples] == [rows[i]["conversations"][-1]["value"] for i in range(3)]


PROMPT = "Every morning Aya goes for a nine kilometer long walk and stops at a coffee shop afterwards to rest."


def test_a_prompt_that_shares_13_words_in_a_row_with_a_benchmark_is_dropped_and_reported(
    tmp_path: Path, cache: str
) -> None:
    inside = "Tell me: EVERY morning, $Aya$ goes for a nine-kilometer long walk and stops at?"  # 13 of its words
    near = "Every morning Aya goes for a nine kilometer long walk and stops, then rests."  # 12 of them
    file = write(tmp_path / "rows.jsonl", math_rows([inside, near, "What is 2 + 2?", "What is 3 + 3?"]))
    benchmark = write(tmp_path / "aime.jsonl", [{"problem": PROMPT}, {"problem": "What is $2+2$?"}])
    curation = Curation(cache=cache, held_out=0, decontaminate=[Benchmark(benchmark)])
    source = OpenR1Math(file, curation=curation)
    assert [e.uid for e in source.examples("math", "train")] == ["u1", "u3"]
    dropped = [(entry["uid"], entry["why"]) for entry in source.prepare().dropped]
    assert dropped[0] == ("u0", "aime.jsonl: every morning aya goes for a nine kilometer long walk and stops at")
    assert dropped[1][0] == "u2"


def test_a_benchmark_of_conversations_counts_with_its_first_turn(tmp_path: Path) -> None:
    file = write(tmp_path / "question.jsonl", [{"turns": [PROMPT, "Now shorter."]}])
    assert Benchmark(file, column="turns").prompts() == [PROMPT]


def test_shares_are_whole_proportional_and_add_up() -> None:
    assert shares({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert sum(shares({"a": 7, "b": 7, "c": 7}, 10).values()) == 10
    assert shares({"a": 2, "b": 1}, 9) == {"a": 2, "b": 1}
