"""How figures look: fonts, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
