"""Learning curves with the stages behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnithink_pl.curriculum import Stage
from omnithink_pl.report.style import INK, colours, figure
from omnithink_pl.transfer import ScoreMatrix

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
