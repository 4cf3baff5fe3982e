"""A plan as pictures: the matrix of transfer, and the orders with what became of those that were run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from omnithink_pl.curriculum.planning import Forecast, Plan
from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.study_figures import wrap
from omnithink_pl.report.study_tables import TRANSFER_SIGN
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL, RC, figure

_ACROSS = 2  # panels
_SHOWN = 24  # orders, half of them the best and half the worst where there are more


def matrix_figure(plan: Plan) -> Figure:
    """What training on a task (row) did to every task (column), in points with 95 % intervals."""
    tasks = plan.tasks
    largest = max(abs(value) for row in plan.effects for value, _, _ in row) or 1.0
    colour = matplotlib.colormaps["RdBu"]
    with figure(2.6 + 1.35 * len(tasks), 1.9 + 0.75 * len(tasks)) as (drawn, axes):
        for y, row in enumerate(plan.effects):
            for x, (value, low, high) in enumerate(row):
                shade = 0.5 + 0.42 * value / largest
                axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, color=colour(shade), lw=0))
                ink = "white" if abs(shade - 0.5) > 0.3 else INK
                axes.text(x, y - 0.08, _points(value), ha="center", va="center", color=ink, fontsize=13, weight="bold")
                ends = f"{_points(low)} to {_points(high)}"
                axes.text(x, y + 0.27, ends, ha="center", va="center", color=ink, fontsize=7.5)
        axes.set_xlim(-0.55, len(tasks) - 0.45)
        axes.set_ylim(len(tasks) - 0.45, -0.55)
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_yticks(range(len(tasks)), [f"trained {task}" for task in tasks])
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        axes.spines[:].set_visible(False)
        axes.set_title("Transfer: change of every task, in points")
        axes.set_xlabel(
            f"{TRANSFER_SIGN}\nBelow each value its 95 % interval (seeds and prompts).", fontsize=8, labelpad=8
        )
    return drawn


def orders_figure(plan: Plan, actual: Mapping[tuple[str, ...], tuple[str, Estimate]]) -> Figure:
    """Predicted mean of the orders with 95 % intervals, and the actual one of those that were run.

    Args:
        plan: The prediction.
        actual: Of each order that was run, the method's name and its mean score.
    """
    shown = _shown(plan, set(actual))
    with figure(9.2, 1.9 + 0.27 * len(shown)) as (drawn, axes):
        for y, one in enumerate(shown):
            value, low, high = (100 * number for number in one.mean)
            colour = LEARNED if one.within_noise else NEUTRAL
            axes.hlines(y, low, high, color=colour, lw=1.6)
            axes.plot(value, y, "o", color=colour, ms=5)
            if one.order in actual:
                name, found = actual[one.order]
                _actual(axes, found, y + 0.28)
                _name(axes, name, 100 * (found.high if found.known else found.value), y + 0.28)
        axes.set_yticks(range(len(shown)), [" → ".join(one.order) for one in shown], fontsize=8)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="x", color="#dddddd", lw=0.8)
        axes.set_axisbelow(True)
        axes.set_title("Predicted mean of each order")
        axes.set_xlabel(
            "mean of the final scores in percent\n"
            + wrap(
                "Dots: predicted, with 95 % intervals; blue: within noise of the best, grey: behind it. "
                "Diamonds: actual, where the order was run, with 95 % intervals over its seeds."
            ),
            fontsize=8,
        )
    return drawn


def errors_figure(lines: Mapping[str, Sequence[tuple[str, Estimate, Estimate]]]) -> Figure:
    """Predicted and actual final score of every task, a panel for each order that was run.

    Args:
        lines: Of each method, task, prediction and what came true.
    """
    tasks = [task for task, _, _ in next(iter(lines.values()))]
    with matplotlib.rc_context(RC):
        size = (1.4 + 4.2 * min(_ACROSS, len(lines)), 1.6 + (0.6 + 0.45 * len(tasks)) * ceil(len(lines) / _ACROSS))
        drawn = Figure(figsize=size, dpi=160, layout="constrained")
        grid = drawn.subplots(ceil(len(lines) / _ACROSS), min(_ACROSS, len(lines)), squeeze=False, sharex=True)
        for axes, (name, own) in zip(grid.flatten(), lines.items(), strict=False):
            for y, (_, expected, actual) in enumerate(own):
                axes.hlines(y - 0.14, 100 * expected.low, 100 * expected.high, color=LEARNED, lw=1.6)
                axes.plot(100 * expected.value, y - 0.14, "o", color=LEARNED, ms=5.5)
                _actual(axes, actual, y + 0.14)
            axes.set_yticks(range(len(tasks)), tasks)
            axes.set_ylim(len(tasks) - 0.5, -0.5)
            axes.set_title(name, fontsize=10, pad=4)
            axes.tick_params(labelbottom=True)  # also above a place that stays empty
            axes.grid(axis="x", color="#dddddd", lw=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        for empty in grid.flatten()[len(lines) :]:
            empty.set_visible(False)
        drawn.suptitle("Predicted against actual final scores", x=0.01, ha="left", fontsize=12, weight="bold")
        drawn.supxlabel(
            "score in percent\nDots: predicted from single-task runs; diamonds: actual. Lines: 95 % intervals.",
            fontsize=8,
        )
    return drawn


def _actual(axes: Axes, found: Estimate, y: float) -> None:
    if found.known:
        axes.hlines(y, 100 * found.low, 100 * found.high, color=FORGOTTEN, lw=1.6)
    axes.plot(100 * found.value, y, "D", color=FORGOTTEN, ms=5.5, zorder=4)


def _name(axes: Axes, name: str, x: float, y: float) -> None:
    """Behind an interval, on white, so that no line crosses it out."""
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axes.annotate(
        name, (x, y), xytext=(6, 0), textcoords="offset points", ha="left", va="center", fontsize=8,
        color=FORGOTTEN, bbox=white, zorder=5,
    )  # fmt: skip


def _shown(plan: Plan, run: set[tuple[str, ...]]) -> list[Forecast]:
    if len(plan.forecasts) <= _SHOWN:
        return list(plan.forecasts)
    half = _SHOWN // 2
    middle = [one for one in plan.forecasts[half:-half] if one.order in run]
    return [*plan.forecasts[:half], *middle, *plan.forecasts[-half:]]


def _points(value: float) -> str:
    number = int(np.rint(100 * value))
    return (f"{number:+d}" if number else "0").replace("-", "−")
