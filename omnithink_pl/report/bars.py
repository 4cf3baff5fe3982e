"""Grouped bars with intervals: the shape of the paper's Figures 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, figure

# Twelve that stay apart: Okabe and Ito's first, then their darker or lighter kin.
_COLOURS = (
    "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7",
    "#7F7F7F", "#4B3D8F", "#9ACD8F", "#8C510A", "#B8B8B8", "#222222",
)  # fmt: skip


def grouped_bars(
    groups: Sequence[str],
    bars: Mapping[str, Sequence[Estimate | None]],
    *,
    title: str,
    unit: str,
    note: str,
    differences: bool,
    digits: int = 0,
) -> Figure:
    """One group of bars per task, one bar per method, with 95 % intervals.

    Args:
        groups: Names of the groups.
        bars: Of each method, a value per group as a fraction; ``None`` where it has none.
        title: Above the figure.
        unit: Of the vertical axis; values are shown times 100.
        note: Below the figure.
        differences: Whether values are differences, drawn from a line at 0 and numbered with their sign.
        digits: Decimals of the value beyond each interval.
    """
    width = 0.86 / max(1, len(bars))
    with figure(max(7.5, 2.5 + 0.27 * len(groups) * (len(bars) + 1)), 4.9) as (drawn, axes):
        for index, (name, estimates) in enumerate(bars.items()):
            colour = _COLOURS[index % len(_COLOURS)]
            shift = (index - (len(bars) - 1) / 2) * width
            present = [(x + shift, found) for x, found in enumerate(estimates) if found is not None]
            shades = [FORGOTTEN if e.value < 0 else LEARNED for _, e in present] if len(bars) == 1 else colour
            heights = [100 * found.value for _, found in present]
            axes.bar([x for x, _ in present], heights, width * 0.9, color=shades, label=name)
            for x, found in present:
                _interval(axes, x, found, signed=differences, digits=digits)
        _frame(axes, groups, title, unit, note)
        if not differences:
            axes.set_ylim(bottom=0)
        if len(bars) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return drawn


def _interval(axes: Axes, x: float, found: Estimate, *, signed: bool, digits: int) -> None:
    low, high = (100 * end if isfinite(end) else 100 * found.value for end in (found.low, found.high))
    if found.known:
        axes.vlines(x, low, high, color=INK, lw=1.1)
    up = found.value >= 0
    value = round(100 * found.value, digits) + 0.0  # no negative zero
    axes.annotate(
        (f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}").replace("-", "−"),
        (x, high if up else low),
        xytext=(0, 3 if up else -3),
        textcoords="offset points",
        ha="center",
        va="bottom" if up else "top",
        fontsize=7.5,
    )


def _frame(axes: Axes, groups: Sequence[str], title: str, unit: str, note: str) -> None:
    axes.axhline(0, color=INK, lw=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.set_xlabel(note, fontsize=8, labelpad=8)
