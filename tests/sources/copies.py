"""Small copies of the data sets on the hub, made of embedded problems: real ids and splits, the columns that count."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omnithink_pl.embedded import EmbeddedCode, EmbeddedMath, EmbeddedQA, EmbeddedWriting
from omnithink_pl.sources import Split
from tests.sources.hub import card

Rows = list[dict[str, Any]]

DISCIPLINES = {"capital": "Geography", "symbol": "Chemistry", "young": "Biology"}


def code_rows(split: Split, count: int) -> Rows:
    """Rows of ganler/code-r1-12k."""
    system = {"role": "system", "content": "You are a helpful programming assistant."}
    rows = []
    for example in EmbeddedCode().examples("code", split)[:count]:
        truth = {name: value for name, value in asdict(example.reference).items() if value}
        rows.append(
            {
                "task_id": example.uid,
                "prompt": [system, {"role": "user", "content": example.question}],
                "entry_point": truth.pop("entry_point", ""),
                "completion": "def f(x): ...",
                "reward_model": {"ground_truth": json.dumps(truth), "style": "rule"},
            }
        )
    return rows


def math_rows(split: Split, count: int) -> Rows:
    """Rows of open-r1/OpenR1-Math-220k."""
    return [
        {
            "uuid": example.uid,
            "problem": example.question,
            "answer": example.reference,
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "generations": ["<think>"],
        }
        for example in EmbeddedMath().examples("math", split)[:count]
    ]


def qa_rows(split: Split, count: int) -> Rows:
    """Rows of m-a-p/SuperGPQA."""
    return [
        {
            "uuid": example.uid,
            "question": example.question,
            "options": list(example.reference.texts),
            "answer": example.reference.answers[0],
            "answer_letter": "ABCDE"[example.reference.texts.index(example.reference.answers[0])],
            "discipline": next(name for word, name in DISCIPLINES.items() if word in example.question),
        }
        for example in EmbeddedQA().examples("qa", split)[:count]
    ]


def writing_rows(split: Split, count: int) -> Rows:
    """Rows of Nitral-AI/Creative_Writing-ShareGPT."""
    return [
        {"conversations": [{"from": "human", "value": example.question}, {"from": "gpt", "value": example.reference}]}
        for example in EmbeddedWriting().examples("writing", split)[:count]
    ]


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


def write(file: Path, rows: Rows) -> str:
    """Write rows in the format of the file's suffix; returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def hub_copies(directory: Path, count: int) -> dict[str, Path]:
    """Write the four training sets, of ``count`` rows each, and the benchmarks; MMLU-Pro has a row of SuperGPQA."""
    asked = qa_rows("train", count)
    asked[0]["question"] = ASKED
    default = {"train": "data/train-*"}
    training = {
        "open-r1/OpenR1-Math-220k": ("data/train-00000-of-00001.parquet", math_rows("train", count)),
        "ganler/code-r1-12k": ("data/train-00000-of-00001.parquet", code_rows("train", count)),
        "m-a-p/SuperGPQA": ("SuperGPQA-all.jsonl", asked),
        "Nitral-AI/Creative_Writing-ShareGPT": ("writing.jsonl", writing_rows("train", count)),
    }
    for repository, (file, found) in training.items():
        write(directory / repository / file, found)
    write(directory / "ganler/code-r1-12k/data/test-00000-of-00001.parquet", code_rows("test", count // 4))
    (directory / "open-r1/OpenR1-Math-220k/README.md").write_text(card(default=default, all=default))
    for repository, (file, configs, column) in BENCHMARKS.items():
        prompt = ASKED if repository == "TIGER-Lab/MMLU-Pro" else f"A question of {repository}"
        write(directory / repository / file, [{column: [prompt, "And then?"] if column == "prompt" else prompt}])
        if configs:
            (directory / repository / "README.md").write_text(card(**configs))
    return {repository: directory / repository for repository in (*training, *BENCHMARKS)}
