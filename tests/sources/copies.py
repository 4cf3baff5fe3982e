"""Small copies of the data sets on the hub: real ids, columns and splits, made-up rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omnithink_pl.embedded import code, math, qa, writing
from tests.sources.hub import card

Rows = list[dict[str, Any]]

ASKED = "What became of the seven old lighthouses on the northern coast of the island, and who keeps them now?"
BENCHMARKS = {  # id: its file, its card, and the column of its prompts
    "bigcode/bigcodebench": ("data/v0.1.4-00000-of-00001.parquet", None, "complete_prompt"),
    "lighteval/code_generation_lite": ("v5/test.parquet", {"release_v5": {"test": "v5/*"}}, "question_content"),
    "HuggingFaceH4/aime_2024": ("data/train-00000-of-00001.parquet", None, "problem"),
    "math-ai/amc23": ("data/test-00000-of-00001.parquet", None, "problem"),
    "MARIO-Math-Reasoning/Gaokao2023-Math-En": ("train.jsonl", None, "question"),
    "HuggingFaceH4/MATH-500": ("test.jsonl", None, "problem"),
    "math-ai/minervamath": ("data/test-00000-of-00001.parquet", None, "question"),
    "Hothan/OlympiadBench": ("OE/o.parquet", {"OE_TO_maths_en_COMP": {"train": "OE/*"}}, "question"),
    "TIGER-Lab/MMLU-Pro": ("data/test-00000-of-00001.parquet", None, "question"),
    "HuggingFaceH4/mt_bench_prompts": ("data/train-00000-of-00001.parquet", None, "prompt"),
}


def write(file: Path, rows: Rows) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def hub_copies(directory: Path, rows: int) -> dict[str, Path]:
    """The four training sets and the benchmarks; one row of SuperGPQA is in MMLU-Pro.

    Args:
        directory: Where they go.
        rows: Of each training set.
    """
    asked = qa.rows("train", 0, rows)
    asked[0]["question"] = ASKED
    default = {"train": "data/train-*"}
    training: dict[str, tuple[str, Rows]] = {
        "open-r1/OpenR1-Math-220k": ("data/train-00000-of-00001.parquet", math.rows("train", 0, rows)),
        "ganler/code-r1-12k": ("data/train-00000-of-00001.parquet", code.rows("train", 0, rows)),
        "m-a-p/SuperGPQA": ("SuperGPQA-all.jsonl", asked),
        "Nitral-AI/Creative_Writing-ShareGPT": ("writing.jsonl", writing.rows("train", 0, rows)),
    }
    for repository, (file, found) in training.items():
        write(directory / repository / file, found)
    write(directory / "ganler/code-r1-12k/data/test-00000-of-00001.parquet", code.rows("test", 0, rows // 4))
    (directory / "open-r1/OpenR1-Math-220k/README.md").write_text(card(default=default, all=default))
    for repository, (file, configs, column) in BENCHMARKS.items():
        prompt = ASKED if repository == "TIGER-Lab/MMLU-Pro" else f"A question of {repository}"
        write(directory / repository / file, [{column: [prompt, "And then?"] if column == "prompt" else prompt}])
        if configs:
            (directory / repository / "README.md").write_text(card(**configs))
    return {repository: directory / repository for repository in (*training, *BENCHMARKS)}
