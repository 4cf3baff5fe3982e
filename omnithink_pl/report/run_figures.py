"""Figures of one run: score matrix, forgetting, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnithink_pl.curriculum.score_matrix import Estimate, ScoreMatrix, changes, mean, mean_scores
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.format import interval, percent, points, row_name
from omnithink_pl.report.style import (
    FORGOTTEN,
    INK,
    LEARNED,
    NEUTRAL,
    bar_panels,
    cell,
    colours,
    figure,
    matrix_axes,
    moving_average,
    shade_stages,
    smoothing_window,
    wrap,
)

Points = Sequence[tuple[int, float]]

_GAP = 0.15  # before the column of means and the rows of losses, in cells
_DARK = 0.72  # scores from which white is easier to read on the cell's colour than black


def learning_curves_figure(rewards: Mapping[str, Points], stages: Sequence[Stage], matrix: ScoreMatrix) -> Figure:
    """Draw the primary reward of each task over the steps, and the evaluations between the stages.

    Training rewards are faint as measured and bold as a moving average; evaluations at temperature 1 are dots with
    their 95 % intervals, joined by dashes.

    Args:
        rewards: For each task, points (step, mean primary reward in [0, 1]).
        stages: The curriculum.
        matrix: Evaluations; row i was measured at the end of stage i. May be empty.
    """
    colour = colours(list(dict.fromkeys([*matrix.tasks, *rewards])))
    with figure(9.5, 4.6) as (drawn, axes):
        ends = shade_stages(axes, stages)
        window = smoothing_window(ends[-1])
        for index, stage in enumerate(stages):
            axes.annotate(
                f"{index + 1} {stage.name}", ((ends[index] + ends[index + 1]) / 2, 1.0), (0, 4), ha="center",
                va="bottom", fontsize=9, xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
        for task, series in rewards.items():
            for piece in _pieces(series, ends):
                steps, values = zip(*piece, strict=True)
                axes.plot(steps, values, color=colour[task], lw=0.8, alpha=0.3)
                axes.plot(steps, moving_average(values, window), color=colour[task], lw=2.2)
        for index, task in enumerate(matrix.tasks):
            shift = 0.006 * ends[-1] * (index - (len(matrix.tasks) - 1) / 2)  # so that intervals do not hide each other
            _evaluations(axes, task, matrix, [end + shift for end in ends], colour[task])
        axes.set_xlim(-0.015 * ends[-1], 1.015 * ends[-1])
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(f"step    (line: training reward, mean of {window} steps; dots: held-out score, 95 % interval)")
        axes.set_ylabel("primary reward")
        axes.set_title("Learning curves", pad=26)
        handles = [axes.plot([], [], color=colour[task], lw=3, label=task)[0] for task in colour]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return drawn


def _evaluations(axes: Axes, task: str, matrix: ScoreMatrix, at: Sequence[float], colour: str) -> None:
    scores = [row[task].estimate for row in matrix.rows]
    axes.errorbar(
        at[: len(scores)],
        [score.value for score in scores],
        yerr=[[score.value - score.low for score in scores], [score.high - score.value for score in scores]],
        color=colour, fmt="o--", ms=5, lw=1.0, elinewidth=1.2, capsize=3, markeredgecolor="white", zorder=4,
    )  # fmt: skip


def _pieces(series: Points, ends: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The points, cut where a stage without any of them lies between two.

    A step's number is the count of finished steps, so stage i holds the steps (ends[i], ends[i + 1]].
    """
    pieces: list[list[tuple[int, float]]] = []
    previous = -2
    for step, value in series:
        stage = int(np.searchsorted(ends, step, side="left"))
        if stage > previous + 1:
            pieces.append([])
        pieces[-1].append((step, value))
        previous = stage
    return pieces


def forgetting_figure(matrix: ScoreMatrix) -> Figure:
    """Draw forgetting P_base - P_after of each task over the whole run, in points with 95 % intervals.

    The sign is the paper's: a bar above zero is forgotten, one below zero learned.

    Raises:
        ValueError: If no stage has ended yet.
    """
    if len(matrix.rows) < 2:
        raise ValueError("the score matrix has no row after a stage yet; there is nothing to compare")
    lost = {task: Estimate(-change.value, -change.high, -change.low) for task, change in changes(matrix).items()}
    average = Estimate(mean({task: found.value for task, found in lost.items()}))
    return bar_panels(
        [""],
        {name: [found] for name, found in {**lost, "mean": average}.items()},
        title="Forgetting over the whole run, with 95 % intervals",
        unit="$P_{base} - P_{after}$ in points\n← learned      forgotten →",
        positive=FORGOTTEN,
        negative=LEARNED,
    )


def score_matrix_figure(matrix: ScoreMatrix, trained: Sequence[Sequence[str]]) -> Figure:
    """Draw the scores of every task before training and after each stage, in percent with 95 % intervals.

    Returns:
        One row per row of the matrix; one column per task and one for their mean.
    """
    rows = [
        (row_name(label), {**{task: row[task].estimate for task in matrix.tasks}, "mean": Estimate(average)})
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
        losses: Further rows by name, of all or some of the columns; positive when lost.
    """
    losses = losses or {}
    columns = {name: x + (_GAP if name == "mean" else 0) for x, name in enumerate(rows[0][1])}
    height = len(rows) + len(losses) + (_GAP if losses else 0)
    with figure(1.9 + 1.25 * len(columns), 1.35 + 0.72 * height) as (drawn, axes):
        names: dict[float, str] = {}
        for y, (name, row) in enumerate(rows):
            names[y] = name
            for column, found in row.items():
                change = points(found.value - rows[0][1][column].value) if y else ""
                below = interval(found) if found.known else change
                outlined = y > 0 and column in trained[y - 1]
                _score_cell(axes, columns[column], y, found.value, below, INK if outlined else None)
        for place, (name, lost) in enumerate(losses.items(), len(rows)):
            names[place + _GAP] = wrap(name, 12)
            for column, found in lost.items():
                _loss_cell(axes, columns[column], place + _GAP, found)
        matrix_axes(axes, {x: name for name, x in columns.items()}, names, title, note)
    return drawn


def _score_cell(axes: Axes, x: float, y: float, value: float, note: str, edge: str | None) -> None:
    if isnan(value):
        cell(axes, x, y, percent(value), "not measured", edge=edge)
    else:
        fill, ink = colormaps["Blues"](0.08 + 0.82 * value), "white" if value > _DARK else INK
        cell(axes, x, y, percent(value), note, fill=fill, edge=edge, ink=ink)


def _loss_cell(axes: Axes, x: float, y: float, found: Estimate) -> None:
    """Orange where the interval lies above 0, blue where it lies below, grey where it holds 0."""
    colour = FORGOTTEN if found.low > 0 else LEARNED if found.high < 0 else NEUTRAL
    note = "not measured" if isnan(found.value) else interval(found, points)
    cell(axes, x, y, points(found.value), note, edge=colour, ink=colour)
