"""Benchmarks in the shape of the hub, with miniature questions that the embedded policy can answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from tests.evaluation.suites.rows import gpt4, mt_bench, question
from tests.sources.copies import math_rows, qa_rows

ROOM = "omnithink_pl.evaluation.suites"


def aime(count: int) -> list[dict[str, Any]]:
    """Miniature problems as AIME 2024 has them; the last is longer than the policy's context."""
    rows = [
        {"id": i, "problem": row["problem"], "solution": "", "answer": row["answer"], "url": "", "year": "2024"}
        for i, row in enumerate(math_rows("test", count))
    ]
    return [*rows, rows[0] | {"id": count, "problem": "Add one and one. " * 100}]


def mmlu_pro(count: int) -> list[dict[str, Any]]:
    """Miniature questions as MMLU-Pro has them."""
    return [
        {
            "question_id": i,
            "question": row["question"],
            "options": row["options"],
            "answer": row["answer_letter"],
            "answer_index": row["options"].index(row["answer"]),
            "cot_content": "",
            "category": row["discipline"],
            "src": "",
        }
        for i, row in enumerate(qa_rows("test", count))
    ]


def hub_shaped(directory: Path, split: str, rows: list[dict[str, Any]]) -> str:
    """One parquet file, named as the hub's converter names it."""
    directory.joinpath("data").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(str(directory / "data" / f"{split}-00000-of-00001.parquet"))
    return str(directory)


def source(name: str, path: str) -> dict[str, Any]:
    return {"class_path": f"{ROOM}.{name}", "init_args": {"path": path}}


def task(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"omnithink_pl.tasks.{name}", "init_args": arguments}


def write_suite(directory: Path) -> Path:
    """A config with four benchmarks, and their data."""
    math_data = hub_shaped(directory / "aime", "train", aime(11))
    qa_data = hub_shaped(directory / "mmlu_pro", "test", mmlu_pro(12))
    stories = str(mt_bench(directory / "mt", [question(81), question(91, "roleplay")], [gpt4(81), gpt4(91)]))
    judge = {"class_path": "tests.rewards.groups.LongerWins"}
    benchmarks = {
        "aime24": {"task": task("Math", source=source("AIME24", math_data)), "samples": 2, "temperature": 1.0},
        "mmlu_pro": {"task": task("QA", source=source("MMLUPro", qa_data))},
        "mmlu_pro_letter": {
            "task": task("QA", source=source("MMLUPro", qa_data), answer="letter"),
            "domain": "qa_letter",
        },
        "mt_bench": {"task": task("Writing", source=source("MTBench", stories), judge=judge)},
    }
    path = directory / "suite.yaml"
    path.write_text(yaml.safe_dump({"data": {"benchmarks": benchmarks}}))
    return path
