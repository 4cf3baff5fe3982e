"""The numbers that the paper prints, beside which ours stand where the benchmark is the same."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CITATION = (
    "Li et al., Omni-Think: Scaling Multi-Task Learning in LLMs via Reinforcement Learning, 2025 "
    "(later version: Omni-Thinker, arXiv 2507.14783)"
)
MODEL = "Qwen2.5-7B-Instruct"


@dataclass(frozen=True)
class PaperTable:
    """Scores as fractions, by name of the score and column.

    Args:
        scores: Of each row, the score in each column that is printed.
        notes: How a doubtful row was read.
    """

    scores: Mapping[str, Mapping[str, float]]
    notes: Mapping[str, str]


@cache
def table(number: int) -> PaperTable:
    """Table 1 (``math``, a domain) or Table 2 (``math/aime24``, a benchmark, ``qa/mmlu_pro/law``, a category)."""
    text = (files(__package__ or "") / f"table{number}.csv").read_text()
    scores: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}
    for row in csv.DictReader(text.splitlines()):
        name, note = row.pop("score"), row.pop("note")
        scores[name] = {column: float(value) / 100 for column, value in row.items() if value}
        if note:
            notes[name] = note
    return PaperTable(scores, notes)


def answer_formats() -> dict[tuple[str, str], float]:
    """Figure 2: MMLU-Pro by the form of the answer in training and in the test, each ``text`` or ``letters``."""
    text = (files(__package__ or "") / "figure2.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return {(row["trained_on"], form): float(row[form]) / 100 for row in rows for form in ("text", "letters")}


def benchmarks(domain: str) -> set[str]:
    """The benchmarks that the paper's score of a domain is made of, such as ``math/aime24``."""
    names = (name.split("/") for name in table(2).scores)
    return {"/".join(parts[:2]) for parts in names if parts[0] == domain}
