"""Every source takes embedded rows, local files and directories, and names what is wrong with a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omnithink_pl.embedded import code, math, qa, writing
from omnithink_pl.errors import BadInput
from omnithink_pl.sources import CodeR1, CreativeWritingShareGPT, OpenR1Math, Source, SuperGPQA
from omnithink_pl.types import Options, UnitTests

SOURCES: list[tuple[type[Any], Any]] = [
    (CodeR1, code.rows),
    (OpenR1Math, math.rows),
    (SuperGPQA, qa.rows),
    (CreativeWritingShareGPT, writing.rows),
]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(("make", "rows"), SOURCES)
def test_examples_are_stable_unique_and_without_messages(make: type[Source], rows: Any) -> None:
    for split in ("train", "test"):
        examples = make().examples("some task", split)
        assert examples == make().examples("some task", split)
        assert len({example.uid for example in examples}) == len(examples) == len(rows(split))
        assert {example.task for example in examples} == {"some task"}
        assert not any(example.messages for example in examples)


@pytest.mark.parametrize(("make", "rows"), SOURCES)
def test_a_local_directory_with_both_splits_gives_the_same_examples(make: Any, rows: Any, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows("train", 0, 30))
    write(tmp_path / "test.jsonl", rows("test", 0, 10))
    train = make(str(tmp_path)).examples("t", "train")
    assert len(train) == 30
    assert len(make(str(tmp_path)).examples("t", "test")) == 10
    assert train[0].reference == make().examples("t", "train")[0].reference or rows is not code.rows


def test_of_a_single_file_a_fifth_is_held_out_and_the_parts_are_disjoint(tmp_path: Path) -> None:
    rows = math.rows("train", 0, 60)
    file = write(tmp_path / "all.jsonl", rows)
    train = {e.uid for e in OpenR1Math(file).examples("t", "train")}
    test = {e.uid for e in OpenR1Math(file).examples("t", "test")}
    assert train | test == {row["uuid"] for row in rows}
    assert not train & test
    assert len(test) == 12


def test_only_word_problems_and_one_turn_conversations_are_kept(tmp_path: Path) -> None:
    problem, proof = math.rows("train", 0, 2)
    proof["question_type"] = "proof"
    talks = writing.rows("train", 0, 3)
    talks[0]["conversations"] *= 2
    talks[1]["conversations"].insert(0, {"from": "system", "value": "You are a poet."})
    for name, rows in (("math", [problem, proof]), ("writing", talks)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.jsonl", rows)
        write(tmp_path / name / "test.jsonl", SOURCES[1 if name == "math" else 3][1]("test", 0, 1))
    assert [e.uid for e in OpenR1Math(str(tmp_path / "math")).examples("t", "train")] == [problem["uuid"]]
    kept = CreativeWritingShareGPT(str(tmp_path / "writing")).examples("t", "train")
    assert [e.question for e in kept] == [row["conversations"][-2]["value"] for row in talks[1:]]


def broken(rows: Any, **changes: Any) -> list[dict[str, Any]]:
    good, bad = rows("train", 0, 2)
    return [good, bad | changes]


@pytest.mark.parametrize(
    ("make", "rows", "column"),
    [
        (OpenR1Math, broken(math.rows, answer="  "), "answer"),
        (SuperGPQA, broken(qa.rows, answer="none of these"), "answer"),
        (SuperGPQA, broken(qa.rows, options=["Lima", None], answer="Lima"), "options"),
        (SuperGPQA, broken(qa.rows, options=None), "answer"),
        (OpenR1Math, broken(math.rows, problem=None), "problem"),
        (CodeR1, broken(code.rows, prompt=None), "prompt"),
        (CodeR1, broken(code.rows, reward_model=None), "ground_truth"),
        (CodeR1, broken(code.rows, reward_model={"ground_truth": "{}", "style": "rule"}), "ground_truth"),
        (CodeR1, broken(code.rows, reward_model={"ground_truth": "assert", "style": "rule"}), "ground_truth"),
        (
            CodeR1,
            broken(code.rows, reward_model={"ground_truth": '{"inputs": ["1"], "outputs": []}', "style": "rule"}),
            "ground_truth",
        ),
        (
            CreativeWritingShareGPT,
            broken(writing.rows, conversations=[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": " "}]),
            "conversations",
        ),
    ],
)
def test_a_row_without_a_usable_reference_is_named_with_its_column_and_a_cure(
    make: Any, rows: list[dict[str, Any]], column: str, tmp_path: Path
) -> None:
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", rows)
    with pytest.raises(BadInput, match=rf"{make.__name__}.*row 1 \(uid .*{column}.*(drop|correct|give)"):
        make(str(tmp_path)).examples("t", "train")


def test_a_path_that_is_not_there_or_holds_no_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    for path in (tmp_path / "none.jsonl", tmp_path / "nowhere", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(BadInput, match=f"{path}.*give a"):
            OpenR1Math(str(path)).examples("t", "train")


def test_a_corrupt_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"uuid": "a", "problem": ')
    with pytest.raises(BadInput, match=r"torn\.jsonl.*cannot be read"):
        OpenR1Math(str(torn)).examples("t", "train")
    other = write(tmp_path / "other.jsonl", [{"uuid": "a", "problem": "2 + 2"}])
    with pytest.raises(BadInput, match=r"other\.jsonl.*no column answer, question_type.*rename"):
        OpenR1Math(other).examples("t", "train")


def test_references_have_the_type_their_reward_needs() -> None:
    assert all(isinstance(e.reference, UnitTests) for e in CodeR1().examples("code", "test"))
    assert all(isinstance(e.reference, Options) for e in SuperGPQA().examples("qa", "test"))
    assert all(isinstance(e.reference, str) for e in OpenR1Math().examples("math", "test"))
