"""The numbers printed in the paper, as fractions, which stand beside ours where the benchmark is the same."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

CITATION = (
    "Li et al., Omni-Think: Scaling Multi-Task Learning in LLMs via Reinforcement Learning, 2025 "
    "(later version: Omni-Thinker, arXiv 2507.14783)"
)
MODEL = "Qwen2.5-7B-Instruct"


@cache
def scores(table: int) -> dict[str, dict[str, float]]:
    """Return the printed columns of each score of a table.

    Table 1 has domains, such as ``math``, Table 2 benchmarks and their categories, such as ``qa/mmlu_pro/law``.
    """
    rows = {row.pop("score"): row for row in _rows(f"table{table}.csv")}
    return {
        name: {column: float(value) / 100 for column, value in row.items() if value and column != "note"}
        for name, row in rows.items()
    }


@cache
def notes() -> dict[str, str]:
    """Return how the doubtful rows of Table 2 were read, by name of the score."""
    return {row["score"]: row["note"] for row in _rows("table2.csv") if row["note"]}


def answer_formats() -> dict[tuple[str, str], float]:
    """Return Figure 2: MMLU-Pro by the form of the answer in training and in the test, each ``text`` or ``letters``."""
    rows, forms = _rows("figure2.csv"), ("text", "letters")
    return {(row["trained_on"], form): float(row[form]) / 100 for row in rows for form in forms}


def benchmarks(domain: str) -> set[str]:
    """Return the benchmarks of which the paper's score of a domain is made, such as ``math/aime24``."""
    return {"/".join(name.split("/")[:2]) for name in scores(2) if name.startswith(f"{domain}/")}


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("omnithink_pl.report.paper") / name).read_text().splitlines()))
