"""The score matrix as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from omnithink_pl.report.score_table import percent
from omnithink_pl.report.style import INK, figure
from omnithink_pl.transfer import Kind, ScoreMatrix, mean_scores

_GAP = 0.15  # between the tasks and their mean, in cells


def score_matrix_figure(matrix: ScoreMatrix, trained: Sequence[Sequence[str]], kind: Kind = "sampled") -> Figure:
    """Scores of every task before training and after each stage, in percent with 95 % intervals.

    Args:
        matrix: At least row 0.
        trained: The tasks of each stage; the cells of the tasks that a row's stage trained are outlined.
        kind: ``sampled`` or ``greedy``.

    Returns:
        One row per row of the matrix; one column per task and one for their mean.
    """
    tasks, means = matrix.tasks, mean_scores(matrix, kind)
    with figure(1.9 + 1.25 * (len(tasks) + 1), 1.35 + 0.72 * len(matrix.rows)) as (drawn, axes):
        for y, row in enumerate(matrix.rows):
            for x, task in enumerate(tasks):
                low, high = row[task].interval(kind)
                _cell(axes, x, y, row[task].value(kind), f"{percent(low)} to {percent(high)}")
                if y > 0 and task in trained[y - 1]:
                    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, ec=INK, lw=2, zorder=3))
            change = 100 * (means[y] - means[0])
            _cell(axes, len(tasks) + _GAP, y, means[y], f"{change:+.0f}" if y else "")
        _frame(axes, [*tasks, "mean"], [_label(name) for name in matrix.labels])
        how = "sampled at temperature 1" if kind == "sampled" else "greedy"
        axes.set_title(f"Score in percent, {how}")
        axes.set_xlabel(
            "95 % interval below each score; below each mean its change since the base.\n"
            "Outlined: what the stage trained.",
            fontsize=8,
            labelpad=8,
        )
    return drawn


def _cell(axes: Axes, x: float, y: int, value: float, note: str) -> None:
    from matplotlib import colormaps

    measured = not isnan(value)
    colour = colormaps["Blues"](0.08 + 0.82 * value) if measured else "white"
    ink = "white" if measured and value > 0.6 else INK
    note = note if measured else "not measured"
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, color=colour, lw=0))
    axes.text(x, y - 0.08, percent(value), ha="center", va="center", color=ink, fontsize=13, weight="bold")
    axes.text(x, y + 0.27, note, ha="center", va="center", color=ink, fontsize=7.5)


def _frame(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    axes.set_xlim(-0.55, len(columns) - 0.45 + _GAP)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xticks([*range(len(columns) - 1), len(columns) - 1 + _GAP], columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)


def _label(name: str) -> str:
    number, _, stage = name.partition(" ")
    return f"after {stage}" if number.isdigit() else name
