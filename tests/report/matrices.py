"""Score matrices and logged metrics made by hand."""

from __future__ import annotations

from math import nan

from omnithink_pl.curriculum.score_matrix import ScoreMatrix, TaskScore


def matrix(**rows: list[float]) -> ScoreMatrix:
    """Rows ``base``, ``s1_code`` and so on, of the scores of code and math; intervals of +- 5 points."""
    made = ScoreMatrix()
    for label, values in rows.items():
        scores = {
            task: TaskScore(value, value - 0.05, value + 0.05, value / 2, value / 2 - 0.05, value / 2 + 0.05, 10, 2)
            for task, value in zip(("code", "math"), values, strict=True)
        }
        made = made.add(label.removeprefix("s").replace("_", " ") if label != "base" else label, scores)
    return made


UNMEASURED = matrix(base=[0.3, 0.4], s1_code=[0.7, nan])
LEARNED = matrix(base=[0.3, 0.4], s1_code=[0.7, 0.38], s2_math=[0.6, 0.8])


def logged(**scores: float) -> dict[str, float]:
    """Metrics with the lower ends of their intervals, such as ``eval/qa/mmlu_pro`` for ``qa__mmlu_pro``."""
    named = {name.replace("__", "/"): value for name, value in scores.items()}
    return {
        **{f"eval/{name}": value for name, value in named.items()},
        **{f"uncertainty/{name}/low": 0.0 for name in named},
    }
