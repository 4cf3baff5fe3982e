"""The score matrix on the screen."""

from __future__ import annotations

from math import isnan

from rich.table import Table
from rich.text import Text

from omnithink_pl.transfer import Change, ScoreMatrix, TaskScore, difference, forgetting, mean, mean_scores

TITLE = "Score in percent, sampled at temperature 1"
UNMEASURED = "-"
LEGEND = """\
▲ ▼ change since the base beyond its 95 % interval, △ ▽ within it
forgotten: base - last row, in points; below 0 is learned"""
GAPS = "- not measured: too much could not be scored, so there is no mean either"


def score_table(matrix: ScoreMatrix) -> Table:
    """Scores at temperature 1 in percent, each with an arrow for its change since the base.

    Args:
        matrix: At least row 0.

    Returns:
        One row per row of the matrix; a column per task and one for the mean; below them what was forgotten.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in (*matrix.tasks, "mean"):
        table.add_column(name, justify="right")
    means = mean_scores(matrix)
    for index, (label, row) in enumerate(zip(matrix.labels, matrix.rows, strict=True)):
        cells = [_cell(matrix.rows[0][task], row[task], index) for task in matrix.tasks]
        table.add_row(row_name(label), *cells, _mean_cell(means, index))
    lost = forgetting(matrix)
    if lost:
        table.add_section()
        table.add_row("forgotten", *[f"{_points(value)}  " for value in lost.values()], _points(mean(lost)) + " " * 5)
    return table


def legend(matrix: ScoreMatrix) -> str:
    """What the signs in the table of a matrix mean."""
    whole = all(score.measured for row in matrix.rows for score in row.values())
    return LEGEND if whole else f"{LEGEND}\n{GAPS}"


def evaluation_line(matrix: ScoreMatrix) -> str:
    """The last row in one line: ``after code: code 71 (+40)  math 40 (-2)  mean 43 (+9)``."""
    means, base, last = mean_scores(matrix), matrix.rows[0], matrix.rows[-1]
    pairs = [(task, base[task].sampled, last[task].sampled) for task in matrix.tasks]
    parts = [
        f"{name} {percent(now)}"
        + (f" ({_points(now - before)})" if len(matrix.rows) > 1 and not isnan(now - before) else "")
        for name, before, now in [*pairs, ("mean", means[0], means[-1])]
    ]
    return f"{row_name(matrix.labels[-1])}: " + "  ".join(parts)


def row_name(label: str) -> str:
    """``after code`` for the label ``1 code``."""
    number, _, stage = label.partition(" ")
    return f"after {stage}" if number.isdigit() else label


def _cell(base: TaskScore, score: TaskScore, index: int) -> Text:
    if index == 0:
        return Text(f"{percent(score.sampled)}  ")
    arrow, style = _arrow(difference(base, score))
    return Text.assemble(f"{percent(score.sampled)} ", (arrow, style))


def _mean_cell(means: list[float], index: int) -> Text:
    change = f" {_points(means[index] - means[0]):>4}" if index else " " * 5
    return Text(percent(means[index]) + change, style="bold")


def _arrow(change: Change) -> tuple[str, str]:
    if change.value == 0 or isnan(change.value):
        return " ", ""
    if change.low <= 0 <= change.high:
        return ("△" if change.value > 0 else "▽"), "dim"
    return ("▲", "bold green") if change.value > 0 else ("▼", "bold red")


def percent(value: float) -> str:
    """A score in percent, or the sign for one that was not measured."""
    return UNMEASURED if isnan(value) else f"{100 * value:.0f}"


def _points(value: float) -> str:
    if isnan(value):
        return UNMEASURED
    points = round(100 * value)
    return f"{points:+d}" if points else "0"
