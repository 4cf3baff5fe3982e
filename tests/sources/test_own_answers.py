"""A policy's own answers as references, as ``predict`` stored them."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from omnithink_pl.errors import BadInput
from omnithink_pl.sources import OwnAnswers
from tests.rewards.groups import answered


def stored(directory: Path, *answers: tuple[str, str, str]) -> OwnAnswers:
    """Rows of a task, a question and a completion; the uid of a prompt is its question."""
    rows = [
        {"task": task, "uid": question, "messages": [{"role": "user", "content": question}], "completion": text}
        for task, question, text in answers
    ]
    Dataset.from_list(rows).save_to_disk(directory / "dataset")
    return OwnAnswers(str(directory))


def test_the_first_answer_of_a_prompt_is_its_reference_without_the_thinking(tmp_path: Path) -> None:
    source = stored(
        tmp_path,
        ("writing", "A tale.", "<think>Hm.</think>no answer"),
        ("writing", "A tale.", answered(" Once. ")),
        ("writing", "A tale.", answered("Twice.")),
        ("writing", "A song.", "cut off"),
        ("qa", "Why?", answered("So.")),
    )
    (example,) = source.examples("writing", "train")
    assert (example.task, example.question, example.reference) == ("writing", "A tale.", "Once.")
    assert source.examples("writing", "test") == []


def test_a_fifth_is_held_out_at_most_and_no_prompt_is_in_both(tmp_path: Path) -> None:
    source = stored(tmp_path, *(("writing", f"Tale {number}.", answered("Once.")) for number in range(20)))
    train, test = ({e.uid for e in source.examples("writing", split)} for split in ("train", "test"))
    assert (len(train), len(test), train & test) == (16, 4, set())
    fewer = OwnAnswers(str(tmp_path), held_out=1)
    assert {example.uid for example in fewer.examples("writing", "test")} < test


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no data set; make one with `main\.py predict"):
        OwnAnswers(str(tmp_path)).examples("writing", "train")
    with pytest.raises(BadInput, match="has no answer to a prompt of math"):
        stored(tmp_path, ("writing", "A tale.", answered("Once."))).examples("math", "train")
