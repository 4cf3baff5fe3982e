"""Subsampling and decontamination."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omnithink_pl.sources import Curation, DecontaminationSet, OpenR1Math
from omnithink_pl.sources.curation import proportional_quotas
from tests.sources.copies import math_rows, write

PROMPT = "Every morning Aya goes for a nine kilometer long walk and stops at a coffee shop afterwards to rest."


def test_a_prompt_that_shares_13_consecutive_words_with_an_evaluation_set_is_dropped_and_reported(
    tmp_path: Path, curation: Curation
) -> None:
    (row,) = math_rows("train", 1)
    inside = "Tell me: EVERY morning, $Aya$ goes for a nine-kilometer long walk and stops at?"  # 13 of its words
    near = "Every morning Aya goes for a nine kilometer long walk and stops, then rests."  # 12 of them
    problems = [inside, near, "What is 2 + 2?", "What is 3 + 3?"]
    file = write(tmp_path / "rows.jsonl", [row | {"problem": p, "uuid": f"u{i}"} for i, p in enumerate(problems)])
    evaluated = write(tmp_path / "aime.jsonl", [{"problem": PROMPT}, {"problem": "What is $2+2$?"}])
    source = OpenR1Math(file, curation=replace(curation, decontaminate=[DecontaminationSet(evaluated)]))
    assert [example.uid for example in source.examples("math", "train")] == ["u1", "u3"]
    dropped = [(entry["uid"], entry["why"]) for entry in source.prepare().dropped]
    assert dropped[0] == ("u0", "aime.jsonl: every morning aya goes for a nine kilometer long walk and stops at")
    assert dropped[1][0] == "u2"


def test_a_set_of_conversations_counts_with_its_first_turns(tmp_path: Path) -> None:
    file = write(tmp_path / "question.jsonl", [{"turns": [PROMPT, "Now shorter."]}])
    assert DecontaminationSet(file, column="turns").prompts() == [PROMPT]


def test_quotas_are_whole_proportional_and_add_up() -> None:
    assert proportional_quotas({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert sum(proportional_quotas({"a": 7, "b": 7, "c": 7}, 10).values()) == 10
    assert proportional_quotas({"a": 2, "b": 1}, 9) == {"a": 2, "b": 1}
