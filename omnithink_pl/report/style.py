"""How figures look: fonts, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.tables import signed

# Okabe and Ito 2008, "Color Universal Design", without black and yellow.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
FORGOTTEN, LEARNED, NEUTRAL, INK = "#D55E00", "#0072B2", "#7F7F7F", "#222222"

_DPI = 160
RC: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "figure.facecolor": "white",
    "savefig.dpi": _DPI,
}


def colours(tasks: Sequence[str]) -> dict[str, str]:
    """A colour for each task; they repeat after six."""
    return {task: _PALETTE[index % len(_PALETTE)] for index, task in enumerate(tasks)}


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one axis, made without pyplot, so that nothing outlives it and no screen is needed.

    Args:
        width: In inches.
        height: In inches.
    """
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        axes = drawn.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        yield drawn, axes


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


_PANEL = 1.75  # inches


def difference_panels(
    groups: Sequence[str], bars: Mapping[str, Sequence[Estimate | None]], *, title: str, unit: str, note: str
) -> Figure:
    """Differences of every method in every group, as bars from a line at 0 with 95 % intervals.

    Args:
        groups: Names of the panels.
        bars: Of each method, a difference per group as a fraction; ``None`` where it has none.
        title: Above the figure.
        unit: Of the axis that all panels share; values are shown times 100.
        note: Below the figure.
    """
    with matplotlib.rc_context(RC):
        size = (1.9 + _PANEL * len(groups), 1.7 + 0.3 * len(bars))
        drawn = Figure(figsize=size, dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        panels = drawn.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)[0]
        for index, (panel, group) in enumerate(zip(panels, groups, strict=True)):
            _panel(panel, [own[index] for own in bars.values()])
            panel.set_title(group, fontsize=10, loc="left", pad=4)
        panels[0].set_yticks(range(len(bars)), list(bars))
        panels[0].set_ylim(len(bars) - 0.4, -0.6)
        left, right = panels[0].get_xlim()
        panels[0].set_xlim(left, right + 0.3 * (right - left))  # the numbers stand there
        panels[0].xaxis.set_major_locator(MaxNLocator(4))
        drawn.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold")
        drawn.supxlabel(f"{unit}\n{note}", fontsize=8)
    return drawn


def _panel(axes: Axes, values: Sequence[Estimate | None]) -> None:
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for y, found in enumerate(values):
        if found is None:
            axes.text(0.99, y, "none", transform=beside, ha="right", va="center", fontsize=8, color="#777777")
            continue
        axes.barh(y, 100 * found.value, 0.68, color=LEARNED if found.value >= 0 else FORGOTTEN, alpha=0.85)
        if found.known and isfinite(found.high):
            axes.hlines(y, 100 * found.low, 100 * found.high, color=INK, lw=1.3)
        axes.text(0.99, y, signed(found.value, 0), transform=beside, ha="right", va="center", fontsize=8.5)
    axes.axvline(0, color=INK, lw=1)
    axes.grid(axis="x", color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
