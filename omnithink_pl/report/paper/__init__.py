"""The numbers printed in the paper, as fractions, and its aggregates, recomputed; they stand beside ours.

Where the paper contradicts itself, the aggregates follow its numbers; ``README.txt`` beside the tables has the
arithmetic.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from statistics import fmean

import numpy as np

from omnithink_pl.curriculum.forgettability import Array

CITATION = (
    "Li et al., Omni-Think: Scaling Multi-Task Learning in LLMs via Reinforcement Learning, 2025 "
    "(later version: Omni-Thinker, arXiv 2507.14783)"
)
MODEL = "Qwen2.5-7B-Instruct"
DOMAINS = ("code", "math", "qa", "writing")


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
def domain_scores() -> dict[str, dict[str, float]]:
    """Return every column's score of each domain, recomputed from Table 2; the reverse curriculum's as Table 1 has it.

    Code and math are plain means of their benchmarks, QA is the micro average over MMLU-Pro's questions, and writing
    the win rate on MT-Bench: so the base, single-task QA, joint, merging and curriculum agree with what is printed.
    """
    table, questions = scores(2), {row["category"]: int(row["questions"]) for row in _rows("mmlu_pro.csv")}
    found: dict[str, dict[str, float]] = {domain: {} for domain in DOMAINS}
    for column in table["math/math500"]:
        for domain in DOMAINS:
            own = {name: row[column] for name, row in table.items() if name.startswith(f"{domain}/")}
            found[domain][column] = fmean(own.values(), [questions.get(name.split("/")[-1], 1) for name in own])
    for domain, row in scores(1).items():
        found[domain]["reverse"] = row["reverse"]
    return found


def transfer() -> Array:
    """Return the change of every domain (column) by training on one alone (row), in the order of ``DOMAINS``."""
    table = domain_scores()
    return np.array([[table[j][f"single_{i}"] - table[j]["base"] for j in DOMAINS] for i in DOMAINS])


def relative_gain(method: str, other: str) -> float:
    """Return the headline's measure: the mean over the domains of a / b - 1, for the scores a and b of two columns."""
    return fmean(row[method] / row[other] - 1 for row in domain_scores().values())


def printed_gain(other: str) -> str | None:
    """Return the curriculum's gain over another column as the abstract prints it, in percent; ``None`` if it does not.

    The one over merging is cut off, not rounded: 9.16 is printed as 9.1.
    """
    return next((row["printed"] for row in _rows("headline.csv") if row["other"] == other), None)


def printed_forgettability(domain: str) -> str:
    """Return what section 5.3 says of a domain, in points: the change of it by training on the others."""
    return next(row["printed"] for row in _rows("section5_3.csv") if row["task"] == domain)


@cache
def notes() -> dict[str, str]:
    """Return how rows of Table 2 were read that are doubtful in print or cannot be, by name of the score."""
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
