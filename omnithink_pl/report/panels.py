"""A panel per task with a bar for each method: many methods side by side, each with its name beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from omnithink_pl.report.estimates import Estimate
from omnithink_pl.report.style import FORGOTTEN, INK, LEARNED, RC
from omnithink_pl.report.table import signed

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
