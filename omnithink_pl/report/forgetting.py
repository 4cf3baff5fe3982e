"""What was forgotten, as bars."""

from __future__ import annotations

from math import isnan

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, NEUTRAL, figure
from omnithink_pl.transfer import Kind, ScoreMatrix, changes, forgetting, mean


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
