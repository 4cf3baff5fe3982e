"""The look of figures, and the charts that several of them are made of.

Figures are made without pyplot, so that nothing outlives them and no screen is needed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from math import ceil, isnan
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from omnithink_pl.curriculum.score_matrix import Estimate
from omnithink_pl.curriculum.stages import Stage
from omnithink_pl.report.output import Number, points

# Okabe and Ito 2008, "Color Universal Design", without black and yellow: colour-blind readers can tell them apart.
_TASKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
FORGOTTEN, LEARNED, NEUTRAL, INK = "#D55E00", "#0072B2", "#7F7F7F", "#222222"
SMALL = 8  # font size of notes

_DPI = 160
_RC: Any = {
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "savefig.dpi": _DPI,
}
_PANEL = 1.75  # inches


def colours(tasks: Sequence[str]) -> dict[str, str]:
    """Return a colour for each task; they repeat after six."""
    return {task: _TASKS[index % len(_TASKS)] for index, task in enumerate(tasks)}


def wrap(text: str, width: int = 100) -> str:
    """Return a note in lines that fit below a figure."""
    return "\n".join(textwrap.wrap(text, width))


@contextmanager
def panels(
    count: int, across: int, size: tuple[float, float], *, title: str = "", sharex: bool = False, sharey: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of a size in inches with some axes, ``across`` of them in a row."""
    with matplotlib.rc_context(_RC):
        drawn = Figure(figsize=size, dpi=_DPI, layout="constrained")
        grid = drawn.subplots(ceil(count / across), across, squeeze=False, sharex=sharex, sharey=sharey).flatten()
        for axes in grid:
            axes.spines[["top", "right"]].set_visible(False)
        for unused in grid[count:]:
            unused.set_visible(False)
        if title:
            drawn.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold")
        yield drawn, list(grid[:count])


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of a size in inches with a single axis."""
    with panels(1, 1, (width, height)) as (drawn, axes):
        yield drawn, axes[0]


def bar_panels(
    panel_names: Sequence[str],
    bars: Mapping[str, Sequence[Estimate | None]],
    *,
    title: str,
    unit: str,
    note: str = "",
    number: Number = points,
    positive: str = LEARNED,
    negative: str = FORGOTTEN,
) -> Figure:
    """Draw fractions times 100 as horizontal bars from a line at 0, with 95 % intervals.

    ``bars`` has, by name, a value for each panel; ``unit`` is that of the axis that all panels share.
    """
    count = len(panel_names)
    size = (1.9 + _PANEL * max(3, count), 1.7 + 0.3 * len(bars))
    with panels(count, count, size, title=title, sharex=True, sharey=True) as (drawn, grid):
        layout: Any = drawn.get_layout_engine()
        layout.set(w_pad=0.08, h_pad=0.08)
        for index, axes in enumerate(grid):
            for y, found in enumerate(own[index] for own in bars.values()):
                text = "none" if found is None else "not measured" if isnan(found.value) else number(found.value, 0)
                axes.text(0.99, y, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8.5)
                if found is not None and not isnan(found.value):
                    colour = positive if found.value >= 0 else negative
                    axes.barh(y, 100 * found.value, 0.68, color=colour, alpha=0.85)
                    if found.known:
                        axes.hlines(y, 100 * found.low, 100 * found.high, color=INK, lw=1.3)
            axes.set_title(panel_names[index], fontsize=10, pad=4)
            axes.axvline(0, color=INK, lw=1)
            axes.grid(axis="x")
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelsize=SMALL)
            axes.spines["left"].set_visible(False)
        grid[0].set_yticks(range(len(bars)), list(bars))
        grid[0].set_ylim(len(bars) - 0.4, -0.6)
        left, right = grid[0].get_xlim()
        grid[0].set_xlim(left, right + 0.3 * (right - left))  # room for the numbers
        grid[0].xaxis.set_major_locator(MaxNLocator(4))
        drawn.supxlabel(f"{unit}\n{note}".strip(), fontsize=SMALL)
    return drawn


def cell(
    axes: Axes, x: float, y: float, text: str, note: str, *, fill: Any = None, edge: str | None = None, ink: str = INK
) -> None:
    """Draw a cell of a matrix: a large text, and a small one below it."""
    corner, width, height = (x - 0.47, y - 0.46), 0.94, 0.92
    if fill is not None:
        axes.add_patch(Rectangle(corner, width, height, color=fill, lw=0))
    if edge is not None:
        axes.add_patch(Rectangle(corner, width, height, fill=False, ec=edge, lw=2, zorder=3))
    axes.text(x, y - 0.08, text, ha="center", va="center", color=ink, fontsize=13, weight="bold")
    axes.text(x, y + 0.27, note, ha="center", va="center", color=ink, fontsize=7.5)


def matrix_axes(axes: Axes, columns: Mapping[Any, str], rows: Mapping[Any, str], title: str, note: str) -> None:
    """Label the rows and columns of a matrix, by their places."""
    axes.set_xlim(-0.55, max(columns) + 0.55)
    axes.set_ylim(max(rows) + 0.55, -0.55)
    axes.set_xticks(list(columns), list(columns.values()))
    axes.set_yticks(list(rows), list(rows.values()))
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    axes.set_xlabel(note, fontsize=SMALL, labelpad=8)


def shade_stages(axes: Axes, stages: Sequence[Stage]) -> list[int]:
    """Shade the steps of each stage; return the steps done at the start of each, and at the end of the last."""
    ends = list(accumulate((stage.steps for stage in stages), initial=0))
    for index in range(len(stages)):
        axes.axvspan(ends[index], ends[index + 1], color="#f2f2f2" if index % 2 == 0 else "#e4e4e4", lw=0, zorder=0)
    return ends


def smoothing_window(steps: int) -> int:
    """Return the number of steps over which a curve of so many steps is averaged."""
    return max(5, steps // 20) | 1  # odd, so that it has a middle


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of the ``window`` values around each value; of fewer at both ends of the series."""
    half = window // 2
    series = np.asarray(values, dtype=float)
    return [float(series[max(0, i - half) : i + half + 1].mean()) for i in range(len(series))]


def dot(axes: Axes, found: Estimate, y: float, colour: str, marker: Literal["o", "D"]) -> None:
    """Draw a value in percent as a dot on its interval."""
    if found.known:
        axes.hlines(y, 100 * found.low, 100 * found.high, color=colour, lw=1.6)
    axes.plot(100 * found.value, y, marker, color=colour, ms=5.5, zorder=4)
