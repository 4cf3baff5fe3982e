"""What was written is there after a kill, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.journal import Journal, Record


def record(uid: str, state: str = "value", value: float | None = 1.0, completion: str = "ok\n  \ud7ff") -> Record:
    return Record("math", uid, 1, 0, "", completion, 3, "stop", state, value, "")


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "there" / "math.jsonl")
    assert journal.read() == {}
    journal.append([record("a"), record("b", "failed", None)])
    journal.append([record("c", "undefined", None)])
    assert list(journal.read().values()) == [
        record("a"),
        record("b", "failed", None),
        record("c", "undefined", None),
    ]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_torn_at_any_place_is_lost_and_the_next_one_is_not(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "math.jsonl")
    journal.append([record("a"), record("b", completion="größer")])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut])
    assert list(journal.read()) == [("a", 1, 0)]
    journal.append([record("c")])
    assert list(journal.read()) == [("a", 1, 0), ("c", 1, 0)]


def test_a_later_record_of_a_completion_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "math.jsonl")
    journal.append([record("a", "failed", None)])
    journal.append([record("a")])
    assert list(journal.read().values()) == [record("a")]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "math.jsonl")
    journal.append([record("a")])
    journal.path.write_text(journal.path.read_text() + '{"uid": "b"}\n')
    with pytest.raises(BadInput, match=r"math\.jsonl, line 2: no record of a benchmark"):
        journal.read()
