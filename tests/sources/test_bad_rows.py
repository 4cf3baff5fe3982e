"""No row is lost without a word: each that cannot be used is named by file and line, or dropped, counted and listed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sources import (
    GSM8K,
    MBPP,
    MMLU,
    CodeR1,
    CreativeWritingShareGPT,
    Curation,
    GPTeacherRoleplay,
    OpenR1Math,
    SuperGPQA,
    Table,
)
from omnithink_pl.sources.curation import Report
from omnithink_pl.tasks import Custom
from tests.sources.copies import Rows, code_rows, math_rows, qa_rows, write, writing_rows
from tests.sources.test_open_sets import gsm8k_row, mbpp_row, mmlu_row, roleplay_row


def table_rows(split: str, count: int) -> Rows:
    return [{"question": f"{n}?", "reference": f"{n}!", "key": n} for n in range(count)]


def few(row: Any) -> Any:
    return lambda split, count: [row(601 + number) for number in range(count)]


def table(path: str, **settings: Any) -> Table:
    return Table(path, {"id": "key"}, **settings)


SOURCES: list[tuple[Any, Any, list[str]]] = [  # with the columns of texts, and of lists of texts after a star
    (CodeR1, code_rows, ["task_id"]),
    (OpenR1Math, math_rows, ["uuid", "problem", "answer"]),
    (SuperGPQA, qa_rows, ["uuid", "question", "answer", "*options"]),
    (GSM8K, few(gsm8k_row), ["question", "answer"]),
    (MBPP, few(mbpp_row), ["task_id", "text", "*test_list"]),
    (MMLU, few(mmlu_row), ["question", "answer", "*choices"]),
    (GPTeacherRoleplay, few(roleplay_row), ["instruction", "response"]),
    (table, table_rows, ["question", "reference", "key"]),
]
NO_TEXTS = [["1 + 1?"], {"text": "1 + 1?"}, None, "", " \u200b\ufeff\n", "half \ud83d", "a \0 b", float("nan")]


def named(error: BadInput, file: str, line: int, column: str) -> None:
    assert file in str(error), error
    assert f"line {line}: " in str(error), error
    assert column in str(error), error


def lost(report: Report) -> int:
    return sum(step["before"] - step["after"] for step in report.steps)


@pytest.mark.parametrize(("source", "rows", "columns"), SOURCES)
def test_what_is_no_text_is_named_or_dropped(
    source: Any, rows: Any, columns: list[str], tmp_path: Path, curation: Curation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenR1Math, "verifier", None)  # a process for each file
    good, bad, last = rows("train", 3)
    for number, column in enumerate(columns):
        name = column.lstrip("*")
        for place, value in enumerate(NO_TEXTS):
            wrong = [value, *bad[name][1:]] if column.startswith("*") else value
            file = write(tmp_path / f"{number}-{place}.jsonl", [good, bad | {name: wrong}, last])
            with pytest.raises(BadInput) as raised:
                source(file, curation=curation).examples("t", "train")
            named(raised.value, file, 2, name)
            dropping = source(file, curation=replace(curation, bad_rows="drop"))
            assert len(dropping.examples("t", "train")) == 2, (name, value)
            report = dropping.prepare()
            assert lost(report) == 1
            assert [(one["row"], "line 2" in one["why"]) for one in report.dropped] == [(1, True)]


@pytest.mark.parametrize("value", NO_TEXTS[:-1])
@pytest.mark.parametrize("place", [0, 1])
def test_a_turn_of_a_conversation_that_is_no_text_is_named(
    value: Any, place: int, tmp_path: Path, curation: Curation
) -> None:
    good, bad = writing_rows("train", 2)
    bad["conversations"][place]["value"] = value
    file = write(tmp_path / "rows.jsonl", [good, bad])
    with pytest.raises(BadInput) as raised:
        CreativeWritingShareGPT(file, curation=curation).examples("t", "train")
    named(raised.value, file, 2, "conversations")


@pytest.mark.parametrize("whole", ["Hi", [1], [{"role": "user"}], [["user", "hi"]], {"from": "human"}])
def test_what_is_no_conversation_is_named(whole: Any, tmp_path: Path, curation: Curation) -> None:
    (coded,), (written,) = code_rows("train", 1), writing_rows("train", 1)
    for source, row, column in (
        (CodeR1, coded | {"prompt": whole}, "prompt"),
        (CreativeWritingShareGPT, written | {"conversations": whole}, "conversations"),
    ):
        file = write(tmp_path / f"{column}.jsonl", [row])
        with pytest.raises(BadInput) as raised:
            source(file, curation=curation).examples("t", "train")  # type: ignore[operator]
        named(raised.value, file, 1, column)


def test_one_id_of_two_prompts_is_named_with_both_rows_or_the_first_is_kept(tmp_path: Path, curation: Curation) -> None:
    rows = table_rows("train", 3)
    rows[2]["key"] = 0
    file = write(tmp_path / "rows.jsonl", [*rows, rows[1]])
    with pytest.raises(
        BadInput, match=r"row 2 \(uid 0\) in rows\.jsonl, line 3: column 'key' .*id of rows\.jsonl, line 1"
    ):
        table(file, curation=curation).examples("t", "train")
    dropping = table(file, curation=replace(curation, bad_rows="drop"))
    assert [one.question for one in dropping.examples("t", "train")] == ["0?", "1?"]
    assert dropping.prepare().summary() == (
        "2 rows to train on and 0 held out; left out: 1 repeated prompt, 1 id of another row"
    )


def test_ids_that_begin_anew_in_each_split_cost_no_row(tmp_path: Path, curation: Curation) -> None:
    rows = table_rows("train", 8)
    write(tmp_path / "copy" / "train.jsonl", rows[:5])
    write(tmp_path / "copy" / "test.jsonl", [row | {"key": number} for number, row in enumerate(rows[5:])])
    found = table(str(tmp_path / "copy"), curation=replace(curation, held_out=9))
    assert [len(found.examples("t", split)) for split in ("train", "test")] == [5, 3]


STRANGE = [
    "\u202eright to left\u202c",
    "שלום, مرحبا",
    "e\u0301 is not \u00e9",
    "a line\u2028b page\x0cc next\x85d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "\ufeffwith a mark",
    "two\r\nlines",
    '"quoted", with commas',
    "0042",
    "NA",
    "2024-10-05T00:00:00",
    "true",
]


def written_as(suffix: str, rows: list[dict[str, str]], file: Path) -> str:
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        file.write_text(text.getvalue(), encoding="utf-8-sig", newline="")
    elif suffix == ".json":
        file.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8-sig")
    elif suffix == ".jsonl":
        lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        file.write_bytes(lines.encode("utf-8-sig"))
    else:
        write(file, rows)
    return str(file)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_unusual_characters_arrive_as_they_are_in_every_format(suffix: str, tmp_path: Path, curation: Curation) -> None:
    rows = [{"question": text, "reference": text, "note": ""} for text in STRANGE]
    file = written_as(suffix, rows, tmp_path / f"rows{suffix}")
    found = Table(file, curation=curation).examples("t", "train")
    assert [(one.question, one.reference) for one in found] == [(text.strip(), text.strip()) for text in STRANGE]


DAMAGED: list[tuple[str, bytes, str]] = [
    (
        "rows.jsonl",
        b'{"question": "a", "reference": 1}\n\n{"question": "b", "ref',
        r"rows\.jsonl, line 3 cannot be read",
    ),
    (
        "rows.jsonl",
        b'{"question": "a", "reference": 1}\n["b", 2]\n',
        r"rows\.jsonl, line 2 is a list and not an object",
    ),
    ("rows.jsonl", b'{"question": "a", "reference": 1}\n{"question": "\xe9"}', r"rows\.jsonl, line 2 .* is not UTF-8"),
    ("rows.jsonl", '{"question": "a"}'.encode("utf-16"), r"rows\.jsonl, line 1 .* is not UTF-8"),
    ("rows.jsonl", b"[" * 100_000, r"rows\.jsonl, line 1 cannot be read"),
    ("rows.json", b'[{"question": "a"}, {"que', r"rows\.json cannot be read"),
    ("rows.json", b'[{"question": "a", "reference": "b"}, 3]', r"rows\.json, row 1 is a int and not an object"),
    ("rows.csv", b'question,reference\na,1\n"b,2\nc,3\n', r"rows\.csv, line 3 cannot be read"),
    ("rows.csv", b"question,reference\na,1\nb,2,3\n", r"rows\.csv, line 3: it has 3 cells, the header 2"),
    ("rows.csv", b"question,reference\na\n", r"rows\.csv, line 2: it has 1 cells, the header 2"),
    ("rows.csv", b"question,question,reference\na,b,1\n", r"rows\.csv has two columns 'question'"),
    ("rows.csv", b"question,reference\na,1\n\xe9,2\n", r"rows\.csv, line .* is not UTF-8"),
    ("rows.parquet", b"PAR1 torn", r"rows\.parquet cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED)
def test_a_damaged_file_is_named_with_the_line(
    name: str, content: bytes, message: str, tmp_path: Path, curation: Curation
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        Table(str(tmp_path / name), curation=replace(curation, bad_rows="drop")).examples("t", "train")


def test_a_cell_of_another_type_than_its_column_is_read(tmp_path: Path, curation: Curation) -> None:
    rows = [
        {"question": "a?", "reference": 1},
        {"question": "b?", "reference": "two"},
        {"question": 3, "reference": 0.5},
    ]
    found = Table(write(tmp_path / "rows.jsonl", rows), curation=curation).examples("t", "train")
    assert [(one.question, one.reference) for one in found] == [("a?", "1"), ("b?", "two"), ("3", "0.5")]


def test_a_long_cell_of_a_csv_file_is_read(tmp_path: Path, curation: Curation) -> None:
    before = csv.field_size_limit()
    rows = [{"question": "long?", "reference": "x" * 200_000}]
    (found,) = Table(written_as(".csv", rows, tmp_path / "rows.csv"), curation=curation).examples("t", "train")
    assert len(str(found.reference)) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text[: text.rindex('{"')], lambda text: None])
def test_curated_rows_that_are_not_those_that_were_written_are_named(
    damage: Any, tmp_path: Path, curation: Curation
) -> None:
    source = Table(write(tmp_path / "rows.jsonl", table_rows("train", 4)), curation=curation)
    source.prepare()
    (cached,) = Path(str(curation.cache)).rglob("train.jsonl")
    left = damage(cached.read_text())
    cached.unlink() if left is None else cached.write_text(left)
    with pytest.raises(BadInput, match=r"train\.jsonl .*rows are curated anew if you remove .*Table-"):
        source.examples("t", "train")


def test_an_empty_split_says_what_became_of_the_rows(tmp_path: Path, curation: Curation) -> None:
    rows = [{"question": " ", "reference": 1}] * 3 + [{"question": "a?", "reference": 1}]
    file = write(tmp_path / "rows.jsonl", rows)
    task = Custom(Table(file, curation=replace(curation, bad_rows="drop", held_out=4)), lambda text, gold: 1.0)
    with pytest.raises(
        BadInput, match=r"the test split is empty.*1 rows to train on .*left out: 3 no usable reference"
    ):
        task.examples("test", seed=0)
