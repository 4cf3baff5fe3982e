"""Figures of one run: score matrix, forgetting, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, changes, mean_estimate, mean_scores
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report import style
from omnithink_pl.report.output import interval, percent, points, row_name
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL

Points = Sequence[tuple[int, float]]

_GAP = 0.15  # before the column of means and the rows of losses, in cells
_DARK = 0.72  # scores from which white is easier to read on the cell's colour than black


def learning_curves_figure(rewards: Mapping[str, Points], stages: Sequence[Stage], matrix: ScoreMatrix) -> Figure:
    """Draw the primary reward of each task over the steps, and the evaluations between the stages.

    Training rewards are faint as measured and bold as a moving average; evaluations at temperature 1 are dots with
    their 95 % intervals, joined by dashes. Row i of the matrix, which may be empty, was measured after stage i.
    """
    colour = style.colours(list(dict.fromkeys([*matrix.tasks, *rewards])))
    with style.figure(9.5, 4.6) as (drawn, axes):
        ends = style.shade_stages(axes, stages)
        window = style.smoothing_window(ends[-1])
        for index, stage in enumerate(stages):
            axes.annotate(
                f"{index + 1} {stage.name}", ((ends[index] + ends[index + 1]) / 2, 1.0), (0, 4), ha="center",
                va="bottom", fontsize=9, xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
        for task, series in rewards.items():
            # A step's number is the count of finished steps, so stage i holds the steps (ends[i], ends[i + 1]]. The
            # curve is cut where a stage without any of its points lies between two.
            curve = np.array(series).reshape(-1, 2)
            stage_of = np.searchsorted(ends, curve[:, 0])
            for piece in np.split(curve, np.flatnonzero(np.diff(stage_of) > 1) + 1):
                steps, values = piece.T
                axes.plot(steps, values, color=colour[task], lw=0.8, alpha=0.3)
                axes.plot(steps, style.moving_average(values, window), color=colour[task], lw=2.2)
        for index, task in enumerate(matrix.tasks):
            shift = 0.006 * ends[-1] * (index - (len(matrix.tasks) - 1) / 2)  # so that intervals do not hide each other
            found = [row[task].estimate for row in matrix.rows]
            axes.errorbar(
                [end + shift for end in ends[: len(found)]], [one.value for one in found],
                yerr=[[one.value - one.low for one in found], [one.high - one.value for one in found]],
                color=colour[task], fmt="o--", ms=5, lw=1.0, elinewidth=1.2, capsize=3, mec="white", zorder=4,
            )  # fmt: skip
        axes.set_xlim(-0.015 * ends[-1], 1.015 * ends[-1])
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(f"step    (line: training reward, mean of {window} steps; dots: held-out score, 95 % interval)")
        axes.set_ylabel("primary reward")
        axes.set_title("Learning curves", pad=26)
        handles = [axes.plot([], [], color=colour[task], lw=3, label=task)[0] for task in colour]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return drawn


def forgetting_figure(matrix: ScoreMatrix) -> Figure:
    """Draw forgetting P_base - P_after of each task over the whole run, in points with 95 % intervals.

    The sign is the paper's: a bar above zero is forgotten, one below zero learned. At least one stage must have ended.
    """
    if len(matrix.rows) < 2:
        raise ValueError("the score matrix has no row after a stage yet; there is nothing to compare")
    lost = {task: Estimate(-change.value, -change.high, -change.low) for task, change in changes(matrix).items()}
    return style.bar_panels(
        [""],
        {name: [found] for name, found in {**lost, "mean": mean_estimate(lost)}.items()},
        title="Forgetting over the whole run, with 95 % intervals",
        unit="$P_{base} - P_{after}$ in points\n← learned      forgotten →",
        positive=FORGOTTEN,
        negative=LEARNED,
    )


def score_matrix_figure(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> Figure:
    """Draw the scores of every task and their mean before training and after each stage, with 95 % intervals."""
    rows = [
        (row_name(label), {**{task: row[task].estimate for task in matrix.tasks}, "mean": Estimate(average.value)})
        for label, row, average in zip(matrix.labels, matrix.rows, mean_scores(matrix), strict=True)
    ]
    note = (
        "95 % interval below each score; below each mean its change since the base.\nOutlined: what the stage trained."
    )
    return matrix_figure(rows, trained, title="Score in percent, sampled at temperature 1", note=note)


def matrix_figure(
    rows: Sequence[tuple[str, Mapping[str, Estimate]]],
    trained: Sequence[Sequence[str]],
    *,
    title: str,
    note: str,
    losses: Mapping[str, Mapping[str, Estimate]] | None = None,
) -> Figure:
    """Draw a score matrix, and below it what was lost.

    Args:
        rows: Name and scores of each row: those of the tasks and their ``mean``.
        trained: The tasks of each stage; outlined.
        title: Above the figure.
        note: Below it.
        losses: Further rows by name, of all or some of the columns; positive when lost: orange where the interval lies
            above 0, blue where it lies below, grey where it holds 0.
    """
    losses = losses or {}
    columns = {name: x + (_GAP if name == "mean" else 0) for x, name in enumerate(rows[0][1])}
    height = len(rows) + len(losses) + (_GAP if losses else 0)
    with style.figure(1.9 + 1.25 * len(columns), 1.35 + 0.72 * height) as (drawn, axes):
        names: dict[float, str] = {}
        for y, (name, row) in enumerate(rows):
            names[y] = name
            for column, found in row.items():
                change = points(found.value - rows[0][1][column].value) if y else ""
                below = "not measured" if isnan(found.value) else interval(found) if found.known else change
                edge = INK if y > 0 and column in trained[y - 1] else None
                fill = None if isnan(found.value) else colormaps["Blues"](0.08 + 0.82 * found.value)
                ink = "white" if found.value > _DARK else INK
                style.cell(axes, columns[column], y, percent(found.value), below, fill=fill, edge=edge, ink=ink)
        for y, (name, lost) in enumerate(losses.items(), len(rows)):
            names[y + _GAP] = style.wrap(name, 12)
            for column, found in lost.items():
                colour = FORGOTTEN if found.low > 0 else LEARNED if found.high < 0 else NEUTRAL
                below = "not measured" if isnan(found.value) else interval(found, points)
                style.cell(axes, columns[column], y + _GAP, points(found.value), below, edge=colour, ink=colour)
        style.matrix_axes(axes, {x: name for name, x in columns.items()}, names, title, note)
    return drawn
