"""Any table is a source: its columns are named, its references of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from omnithink_pl.errors import BadInput
from omnithink_pl.sources import Curation, Table
from omnithink_pl.types import Options

ROWS = [{"prompt": f"What is {n}?", "answer": f"00{n}", "extra": None} for n in range(10)]
COLUMNS: Any = {"question": "prompt", "reference": "answer"}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows in the format of the file's name."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        table = Dataset.from_list(rows)
        {".csv": table.to_csv, ".parquet": table.to_parquet, ".json": table.to_json}[path.suffix](str(path))
    return str(path)


@pytest.fixture
def curation(tmp_path: Path) -> Curation:
    return Curation(cache=str(tmp_path / "cache"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_disjoint_splits(suffix: str, tmp_path: Path, curation: Curation) -> None:
    source = Table(write(tmp_path / f"rows{suffix}", ROWS), COLUMNS, curation=curation)
    train, test = (source.examples("mine", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert {(one.question, one.reference) for one in train + test} == {(r["prompt"], r["answer"]) for r in ROWS}
    assert len({one.uid for one in train + test}) == 10


def test_rows_are_identified_by_their_content_or_a_column(tmp_path: Path, curation: Curation) -> None:
    rows = [{"question": "a?", "reference": 1, "key": "x"}, {"question": "b?", "reference": 0.5, "key": "y"}]
    file = write(tmp_path / "rows.jsonl", rows)
    by_content = Table(file, curation=curation).examples("t", "train")
    again = Table(write(tmp_path / "other.jsonl", rows[::-1]), curation=curation).examples("t", "train")
    assert {(e.uid, e.reference) for e in by_content} == {(e.uid, e.reference) for e in again}
    assert {e.reference for e in by_content} == {"1", "0.5"}  # as they are written
    assert {e.uid for e in Table(file, {"id": "key"}, curation=curation).examples("t", "train")} == {"x", "y"}


@pytest.mark.parametrize(
    ("reference", "right"), [("Rome", "Rome"), (1, "Lima"), (0, "Rome"), ("B", "Lima"), (" Lima ", "Lima")]
)
def test_the_right_option_is_named_by_text_position_or_letter(
    reference: object, right: str, tmp_path: Path, curation: Curation
) -> None:
    rows = [{"question": "Peru?", "reference": reference, "choices": ["Rome", "Lima"]}]
    (example,) = Table(write(tmp_path / "r.jsonl", rows), {"options": "choices"}, curation=curation).examples(
        "q", "train"
    )
    assert example.reference == Options(("Rome", "Lima"), (right,))


def test_a_text_that_is_an_option_is_no_letter(tmp_path: Path, curation: Curation) -> None:
    rows = [{"question": "Which?", "reference": "B", "options": ["B", "A"]}]
    (example,) = Table(write(tmp_path / "r.jsonl", rows), {"options": "options"}, curation=curation).examples(
        "q", "train"
    )
    assert example.reference == Options(("B", "A"), ("B",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": " ", "reference": "1"}, r"row 1 in rows\.jsonl, line 2: column 'question' .* it is empty"),
        ({"question": "q", "reference": None}, r"column 'reference' .* it is empty"),
        ({"question": "q", "reference": "C", "options": ["a", "b"]}, r"'C' is no option's text, position .* or letter"),
        ({"question": "q", "reference": "a", "options": ["a", "a"]}, r"it must list at least two texts"),
        ({"question": "q", "reference": "a", "options": None}, r"column 'options' .*give it a list"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_dropped(
    row: dict[str, Any], message: str, tmp_path: Path, curation: Curation
) -> None:
    good = {"question": "fine?", "reference": "a", "options": ["a", "b"]}
    columns: Any = {"options": "options"} if "options" in row else {}
    file = write(tmp_path / "rows.jsonl", [good, {"options": ["a", "b"]} | row])
    with pytest.raises(BadInput, match=message):
        Table(file, columns, curation=curation).examples("t", "train")
    kept = Table(file, columns, curation=Curation(bad_rows="drop", cache=curation.cache)).examples("t", "train")
    assert [one.question for one in kept] == ["fine?"]


def test_a_column_that_there_is_not_is_answered_with_the_cure(tmp_path: Path, curation: Curation) -> None:
    file = write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(BadInput, match=r"no column question, reference among .*'prompt'\].*columns=\{question: prompt"):
        Table(file, curation=curation).examples("t", "train")


def test_other_columns_for_the_same_parts_are_other_rows(tmp_path: Path, curation: Curation) -> None:
    file = write(tmp_path / "rows.jsonl", [{"a": f"{n}?", "b": f"{n}!"} for n in range(5)])
    one, other = ({"question": "a", "reference": "b"}, {"question": "b", "reference": "a"})
    first = Table(file, one, curation=curation).examples("t", "train")  # type: ignore[arg-type]
    second = Table(file, other, curation=curation).examples("t", "train")  # type: ignore[arg-type]
    assert {e.question for e in first} != {e.question for e in second}
