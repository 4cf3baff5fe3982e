"""The score matrix as Markdown: the description of a run."""

from __future__ import annotations

from math import isnan

from omnithink_pl.report.score_table import UNMEASURED, row_name
from omnithink_pl.transfer import ScoreMatrix, TaskScore, forgetting, mean, mean_scores


def score_markdown(matrix: ScoreMatrix) -> str:
    """Scores at temperature 1 in percent with their 95 % intervals, and what was forgotten.

    Args:
        matrix: At least row 0.
    """
    tasks = matrix.tasks
    lines = ["Score in percent, sampled at temperature 1 (95 % interval)", ""]
    lines += [_line(["", *tasks, "mean"]), _line(["---", *["---:"] * (len(tasks) + 1)])]
    for label, row, average in zip(matrix.labels, matrix.rows, mean_scores(matrix), strict=True):
        lines.append(_line([row_name(label), *[_cell(row[task]) for task in tasks], _number(average)]))
    lost = forgetting(matrix)
    if lost:
        points = [_number(value, "+") for value in (*lost.values(), mean(lost))]
        lines.append(_line(["forgotten (base - last)", *points]))
    return "\n".join(lines)


def _number(value: float, sign: str = "") -> str:
    return UNMEASURED if isnan(value) else f"{100 * value:{sign}.1f}"


def _cell(score: TaskScore) -> str:
    if isnan(score.sampled):
        return UNMEASURED
    return f"{100 * score.sampled:.1f} ({100 * score.sampled_low:.0f} to {100 * score.sampled_high:.0f})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
