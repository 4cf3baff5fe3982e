"""The journal: what was written is there after a kill, and only that; and completions of an earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.completions import Record, SavedCompletions, append_records, read_records


def record(uid: str, state: str = "value", value: float | None = 1.0, completion: str = "ok\n  \ud7ff") -> Record:
    return Record("math", uid, 1, 0, "", completion, 3, "stop", state, value, "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "there" / "math.jsonl"


def test_records_come_back_as_they_were_and_a_later_one_of_a_completion_counts(path: Path) -> None:
    assert read_records(path) == {}
    append_records(path, [record("a"), record("b", "failed", None)])
    append_records(path, [record("c", "undefined", None), record("b")])
    assert list(read_records(path).values()) == [record("a"), record("b"), record("c", "undefined", None)]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_torn_at_any_place_is_lost_and_the_next_one_is_not(path: Path, cut: int) -> None:
    append_records(path, [record("a"), record("b", completion="größer")])
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_records(path)) == [("a", 1, 0)]
    append_records(path, [record("c")])
    assert list(read_records(path)) == [("a", 1, 0), ("c", 1, 0)]


def test_a_line_that_is_no_record_is_named(path: Path) -> None:
    append_records(path, [record("a")])
    path.write_text(path.read_text() + '{"uid": "b"}\n')
    with pytest.raises(BadInput, match=r"math\.jsonl, line 2: no record of a benchmark"):
        read_records(path)


def test_an_earlier_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--completions: no directory '/nowhere'"):
        SavedCompletions(Path("/nowhere"))
    with pytest.raises(BadInput, match=r"no file .*/aime24\.jsonl; run validate for aime24 without --completions"):
        SavedCompletions(tmp_path).open("aime24")
