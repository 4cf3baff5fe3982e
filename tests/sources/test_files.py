"""One way to rows: a file, a directory in the shape of a hub repository, or the hub itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.files import data_patterns, find_files
from tests.sources.copies import Rows, write
from tests.sources.hub import COMMIT, card, fake_hub

ROWS = [{"id": 0, "problem": "1 + 1", "answer": 2.0}, {"id": 1, "problem": "2 + 2", "answer": 4.0}]
COLUMNS = ("problem", "answer")


def read_rows(source: str, path: str, split: str, columns: Sequence[str], **where: str) -> Rows:
    """As an evaluation suite reads them."""
    return [dict(row) for row in find_files(f"{source}({path})", path, **where).of_one_file(split).read(split, columns)]


def wanted(rows: Rows) -> Rows:
    return [{column: row[column] for column in COLUMNS} for row in rows]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_file_gives_the_columns_asked_for_whatever_split_is_named_or_says_which_is_missing(
    suffix: str, tmp_path: Path
) -> None:
    file = write(tmp_path / f"any.{suffix}", ROWS)
    for split in ("train", "v0.1.4"):
        assert read_rows("AMC23", file, split, COLUMNS) == wanted(ROWS)
    missing = rf"^AMC23\({file}.*has no column question among \['answer', 'id', 'problem'\].*Table"
    with pytest.raises(BadInput, match=missing):
        read_rows("AMC23", file, "train", ("question",))


def test_a_directory_with_a_card_has_its_configurations_splits_and_shards(tmp_path: Path) -> None:
    for shard, row in enumerate(ROWS):
        write(tmp_path / f"data/train-0000{shard}-of-00002.parquet", [row])
    write(tmp_path / "all/test-00000-of-00001.parquet", ROWS[::-1])
    (tmp_path / "README.md").write_text(card(default={"train": "data/train-*"}, all={"test": "all/test-*"}))
    assert read_rows("x", str(tmp_path), "train", COLUMNS) == wanted(ROWS)
    assert read_rows("x", str(tmp_path), "test", COLUMNS, config="all") == wanted(ROWS[::-1])
    with pytest.raises(BadInput, match=r"^x\(.*no split 'test'; there is train"):
        read_rows("x", str(tmp_path), "test", COLUMNS)
    with pytest.raises(BadInput, match=r"^x\(.*'none' not found.*default.*set `config`"):
        read_rows("x", str(tmp_path), "test", COLUMNS, config="none")


def test_a_directory_without_a_card_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "data/v0.1.4-00000-of-00001.parquet", ROWS)
    write(tmp_path / "data/v0.1.3-00000-of-00001.parquet", ROWS[:1])
    assert read_rows("x", str(tmp_path), "v0.1.4", COLUMNS) == wanted(ROWS)
    write(tmp_path / "lone/SuperGPQA-all.jsonl", ROWS)
    assert read_rows("x", str(tmp_path / "lone"), "train", COLUMNS) == wanted(ROWS)


def test_columns_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    rows = [row | {"generations": ["x" * 1000]} for row in ROWS]
    file = write(tmp_path / "train.parquet", rows)
    for row in find_files("x", str(file)).read("train", COLUMNS):
        assert list(row) == list(COLUMNS)


def test_a_path_that_is_not_there_holds_no_data_or_a_torn_or_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    for path in (tmp_path / "none.jsonl", tmp_path / "nowhere", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(BadInput, match=f"{path}.*give a"):
            find_files("x", str(path))
    for suffix in (".parquet", ".jsonl", ".json"):
        for content, message in (('{"problem": ', "cannot be read"), ("", "is empty")):
            (file := tmp_path / f"train{suffix}").write_text(content)
            with pytest.raises(BadInput, match=rf"train{suffix}.*{message}"):
                read_rows("x", str(file), "train", COLUMNS)


def test_the_version_changes_with_a_file_and_only_then(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    before = find_files("x", str(tmp_path)).version
    assert find_files("x", str(tmp_path)).version == before
    write(tmp_path / "train.jsonl", ROWS[:1])
    assert find_files("x", str(tmp_path)).version != before


@pytest.mark.parametrize(
    ("files", "patterns"),
    [
        ("data/train-*", ["data/train-*"]),
        (["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        ([{"split": "train", "path": ["a/*", "b/*"]}, {"split": "test", "path": "c"}], ["a/*", "b/*", "c"]),
        ({"train": "a", "test": ["b"]}, ["a", "b"]),
    ],
)
def test_a_card_names_files_in_any_of_its_forms(files: Any, patterns: list[str], tmp_path: Path) -> None:
    front = {"configs": [{"config_name": "other", "data_files": "o"}, {"config_name": "default", "data_files": files}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(front)}\n---\nA card")
    assert data_patterns(tmp_path / "README.md", None) == patterns
    assert data_patterns(tmp_path / "README.md", "other") == ["o"]


def test_the_hub_is_read_at_one_commit_without_other_configurations_and_then_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data/train-00000-of-00001.parquet", ROWS)
    write(tmp_path / "all/train-00000-of-00001.parquet", ROWS * 2)
    (tmp_path / "README.md").write_text(card(default={"train": "data/train-*"}, all={"train": "all/train-*"}))
    with fake_hub({"maths/sums": tmp_path}, monkeypatch) as hub:
        found = find_files("x", "maths/sums", revision="main")
        assert found.version == COMMIT
        assert [file.parent.name for file in found.splits["train"]] == ["data"]
        assert read_rows("x", "maths/sums", "train", COLUMNS, revision=COMMIT) == wanted(ROWS)
        assert not any("/all/" in request for request in hub.requests)
        with pytest.raises(BadInput, match=r"^x.*'maths/sums' has no revision 'v9': it was .*moved.*give a commit"):
            find_files("x", "maths/sums", revision="v9")
        with pytest.raises(BadInput, match=r"^x.*'maths/none' does not exist; give a hub id"):
            find_files("x", "maths/none")
    assert read_rows("x", "maths/sums", "train", COLUMNS, revision="main") == wanted(ROWS)
    with pytest.raises(BadInput, match=r"^x.*'maths/sums' at \w+ cannot be reached.*run `python main\.py prepare`"):
        find_files("x", "maths/sums", config="all")
