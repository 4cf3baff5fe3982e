"""Figures of one run: score matrix, forgetting, learning curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import isnan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from omnithink_pl.curriculum.score_matrix import Kind, Row, ScoreMatrix, changes, forgetting, mean, mean_scores
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.console import UNMEASURED, percent, row_name
from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL, colours, figure
from omnithink_pl.report.tables import signed

Points = Sequence[tuple[int, float]]


def learning_curves_figure(rewards: Mapping[str, Points], stages: Sequence[Stage], matrix: ScoreMatrix) -> Figure:
    """Primary reward of each task over the steps, and the evaluations between the stages.

    Args:
        rewards: For each task, points (step, mean primary reward in [0, 1]).
        stages: The curriculum.
        matrix: Evaluations; row i was measured at the end of stage i. May be empty.

    Returns:
        Training rewards faint as measured and bold as a moving average; evaluations at temperature 1 as
        dots with their 95 % intervals, joined by dashes.
    """
    ends = [0, *accumulate(stage.steps for stage in stages)]
    colour = colours(list(dict.fromkeys([*matrix.tasks, *rewards])))
    window = max(5, ends[-1] // 20) | 1  # odd, so that it has a middle
    with figure(9.5, 4.6) as (drawn, axes):
        _shade(axes, ends, stages)
        for task, points in rewards.items():
            for piece in _pieces(points, ends):
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


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Mean of the ``window`` values around each value; of fewer where the series begins and ends."""
    half = window // 2
    padded = np.asarray(values, dtype=float)
    return [float(padded[max(0, i - half) : i + half + 1].mean()) for i in range(len(padded))]


def _shade(axes: Axes, ends: Sequence[int], stages: Sequence[Stage]) -> None:
    for index, stage in enumerate(stages):
        left, right = ends[index], ends[index + 1]
        axes.axvspan(left, right, color="#f2f2f2" if index % 2 == 0 else "#e4e4e4", lw=0, zorder=0)
        axes.annotate(
            f"{index + 1} {stage.name}",
            ((left + right) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color=INK,
        )


def _evaluations(axes: Axes, task: str, matrix: ScoreMatrix, at: Sequence[float], colour: str) -> None:
    scores = [row[task] for row in matrix.rows]
    below = [score.sampled - score.sampled_low for score in scores]
    above = [score.sampled_high - score.sampled for score in scores]
    axes.errorbar(
        at[: len(scores)],
        [score.sampled for score in scores],
        yerr=[below, above],
        color=colour,
        fmt="o--",
        ms=5,
        lw=1.0,
        elinewidth=1.2,
        capsize=3,
        markeredgecolor="white",
        zorder=4,
    )


def _pieces(points: Points, ends: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The points cut where a stage without any of them lies between two.

    A step's number is the count of finished steps, so stage i holds the steps (ends[i], ends[i + 1]].
    """
    pieces: list[list[tuple[int, float]]] = []
    previous = -2
    for step, value in points:
        stage = int(np.searchsorted(ends, step, side="left"))
        if stage > previous + 1:
            pieces.append([])
        pieces[-1].append((step, value))
        previous = stage
    return pieces


def forgetting_figure(matrix: ScoreMatrix, kind: Kind = "sampled") -> Figure:
    """Forgetting P_base - P_after of each task over the whole run, in points with 95 % intervals.

    The sign is the paper's: a bar above zero is forgotten, one below zero learned.

    Args:
        matrix: At least row 0 and one row after a stage.
        kind: ``sampled`` or ``greedy``.

    Raises:
        ValueError: If no stage has ended yet.
    """
    if len(matrix.rows) < 2:
        raise ValueError("the score matrix has no row after a stage yet; there is nothing to compare")
    lost = {task: 100 * value for task, value in forgetting(matrix, kind).items()}
    change = changes(matrix, kind).values()  # after - base, so its upper end is the lower end of what was lost
    lows, highs = [-100 * c.high for c in change], [-100 * c.low for c in change]
    with figure(1.8 + 1.1 * (len(lost) + 1), 4.0) as (drawn, axes):
        values = [*lost.values(), mean(lost)]
        colours = [FORGOTTEN if value > 0 else LEARNED for value in lost.values()]
        axes.bar(
            [*lost, "mean"], [0.0 if isnan(value) else value for value in values], width=0.62, color=[*colours, NEUTRAL]
        )
        axes.vlines(range(len(lost)), lows, highs, color=INK, lw=1.3)
        for x, (value, low, high) in enumerate(zip(values, [*lows, values[-1]], [*highs, values[-1]], strict=True)):
            _number(axes, x, value, high if value > 0 else low)
        axes.axhline(0, color=INK, lw=1)
        axes.grid(axis="y", color="#dddddd", lw=0.8)
        axes.set_axisbelow(True)
        axes.margins(y=0.15)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("$P_{base} - P_{after}$ in points\n← learned      forgotten →")
        axes.set_title("Forgetting over the whole run, with 95 % intervals")
    return drawn


def _number(axes: Axes, x: int, value: float, end: float) -> None:
    """The value, just beyond the end of its interval."""
    if isnan(value):
        axes.text(x, 0, "not\nmeasured", ha="center", va="bottom", color=INK, fontsize=8)
        return
    side = 1 if value > 0 else -1
    axes.annotate(
        f"{round(value):+d}" if round(value) else "0",
        (x, end),
        xytext=(0, 4 * side),
        textcoords="offset points",
        ha="center",
        va="bottom" if value > 0 else "top",
        weight="bold",
    )


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
