"""The numbers printed in the paper, which stand beside ours where the benchmark is the same."""

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
    """Scores as fractions, by name of the score and column."""

    scores: Mapping[str, Mapping[str, float]]  # of each row, the score in each column that is printed
    notes: Mapping[str, str]  # how a doubtful row was read


@cache
def table(number: int) -> PaperTable:
    """Return Table 1 (``math``, a domain) or 2 (``math/aime24``, a benchmark, ``qa/mmlu_pro/law``, a category)."""
    scores: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}
    for row in _rows(f"table{number}.csv"):
        name, note = row.pop("score"), row.pop("note")
        scores[name] = {column: float(value) / 100 for column, value in row.items() if value}
        if note:
            notes[name] = note
    return PaperTable(scores, notes)


def answer_formats() -> dict[tuple[str, str], float]:
    """Return Figure 2: MMLU-Pro by the form of the answer in training and in the test, each ``text`` or ``letters``."""
    return {
        (row["trained_on"], form): float(row[form]) / 100
        for row in _rows("figure2.csv")
        for form in ("text", "letters")
    }


def benchmarks(domain: str) -> set[str]:
    """Return the benchmarks of which the paper's score of a domain is made, such as ``math/aime24``."""
    return {"/".join(name.split("/")[:2]) for name in table(2).scores if name.startswith(f"{domain}/")}


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files(__package__ or "") / name).read_text().splitlines()))
