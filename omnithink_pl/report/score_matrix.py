"""The score matrix as a heat map."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import isnan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.score_table import UNMEASURED, percent, row_name
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL, figure
from omnithink_pl.report.table import signed
from omnithink_pl.transfer import Kind, Row, ScoreMatrix, mean_scores

_GAP = 0.15  # between the tasks and their mean, and the stages and what was forgotten, in cells
_DARK = 0.72  # scores from which white is easier to read on the cell's colour than black
_NOTE = """\
95 % interval below each score; below each mean its change since the base.
Outlined: what the stage trained."""


def score_matrix_figure(
    matrix: ScoreMatrix,
    trained: Sequence[Sequence[str]],
    kind: Kind = "sampled",
    *,
    title: str | None = None,
    note: str = _NOTE,
    means: Sequence[Estimate] | None = None,
    summaries: Mapping[str, Mapping[str, Estimate]] | None = None,
) -> Figure:
    """Scores of every task before training and after each stage, in percent with 95 % intervals.

    Args:
        matrix: At least row 0.
        trained: The tasks of each stage; the cells of the tasks that a row's stage trained are outlined.
        kind: ``sampled`` or ``greedy``.
        title: Above the figure; says how the scores were sampled if not given.
        note: Below it.
        means: The mean over the tasks of each row, with intervals; without them, if not given.
        summaries: Further rows by name: what was lost of each task and of their ``mean``, positive when lost.

    Returns:
        One row per row of the matrix; one column per task and one for their mean.
    """
    summaries = summaries or {}
    rows = len(matrix.rows) + len(summaries) + (_GAP if summaries else 0)
    with figure(1.9 + 1.25 * (len(matrix.tasks) + 1), 1.35 + 0.72 * rows) as (drawn, axes):
        averages = mean_scores(matrix, kind)
        for y, row in enumerate(matrix.rows):
            _row(axes, y, {task: row[task] for task in matrix.tasks}, trained[y - 1] if y else (), kind)
            change = f"{100 * (averages[y] - averages[0]):+.0f}" if y else ""
            _cell(axes, len(matrix.tasks) + _GAP, y, averages[y], _ends(means[y]) if means else change)
        labels: dict[float, str] = dict(enumerate(map(row_name, matrix.labels)))
        for y, (name, lost) in enumerate(summaries.items(), len(matrix.rows)):
            labels[y + _GAP] = textwrap.fill(name, 12)
            for x, task in enumerate(matrix.tasks):
                _loss(axes, x, y + _GAP, lost.get(task))
            _loss(axes, len(matrix.tasks) + _GAP, y + _GAP, lost.get("mean"))
        _frame(axes, [*matrix.tasks, "mean"], labels)
        how = "sampled at temperature 1" if kind == "sampled" else "greedy"
        axes.set_title(title or f"Score in percent, {how}")
        axes.set_xlabel(note, fontsize=8, labelpad=8)
    return drawn


def _row(axes: Axes, y: int, row: Row, trained: Sequence[str], kind: Kind) -> None:
    for x, (task, score) in enumerate(row.items()):
        low, high = score.interval(kind)
        _cell(axes, x, y, score.value(kind), f"{percent(low)} to {percent(high)}")
        if task in trained:
            axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, ec=INK, lw=2, zorder=3))


def _ends(mean: Estimate) -> str:
    return f"{percent(max(0.0, mean.low))} to {percent(min(1.0, mean.high))}"


def _loss(axes: Axes, x: float, y: float, found: Estimate | None) -> None:
    """Orange where the interval lies above 0, blue where it lies below, grey where it holds 0."""
    if found is None:
        return
    colour = FORGOTTEN if found.low > 0 else LEARNED if found.high < 0 else NEUTRAL
    measured = not isnan(found.value)
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, ec=colour, lw=1.5))
    text = signed(found.value, 0) if measured else UNMEASURED
    ends = f"{signed(found.low, 0)} to {signed(found.high, 0)}" if measured else "not measured"
    axes.text(x, y - 0.08, text, ha="center", va="center", color=colour, fontsize=13, weight="bold")
    axes.text(x, y + 0.27, ends, ha="center", va="center", color=INK, fontsize=7.5)


def _cell(axes: Axes, x: float, y: float, value: float, note: str) -> None:
    from matplotlib import colormaps

    measured = not isnan(value)
    colour = colormaps["Blues"](0.08 + 0.82 * value) if measured else "white"
    ink = "white" if measured and value > _DARK else INK
    note = note if measured else "not measured"
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, color=colour, lw=0))
    axes.text(x, y - 0.08, percent(value), ha="center", va="center", color=ink, fontsize=13, weight="bold")
    axes.text(x, y + 0.27, note, ha="center", va="center", color=ink, fontsize=7.5)


def _frame(axes: Axes, columns: Sequence[str], rows: Mapping[float, str]) -> None:
    axes.set_xlim(-0.55, len(columns) - 0.45 + _GAP)
    axes.set_ylim(max(rows) + 0.55, -0.55)
    axes.set_xticks([*range(len(columns) - 1), len(columns) - 1 + _GAP], columns)
    axes.set_yticks(list(rows), list(rows.values()))
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
