"""Learning curves of a study: one panel per method, its seeds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from omnithink_pl.report.curves import moving_average
from omnithink_pl.report.results import Method, StudyResults
from omnithink_pl.report.style import INK, RC, colours

_ACROSS = 2


def study_curves_figure(study: StudyResults) -> Figure | None:
    """Training rewards by step, moving averages: mean over the seeds as a line, lowest to highest as a band.

    Returns:
        ``None`` if no method has training rewards.
    """
    methods = [method for method in study.trained if any(run.rewards for run in method.runs)]
    if not methods:
        return None
    colour = colours(study.tasks)
    across = min(_ACROSS, len(methods))
    down = ceil(len(methods) / across)
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(5.4 * across, 0.9 + 2.5 * down), dpi=160, layout="constrained")
        panels = drawn.subplots(down, across, squeeze=False, sharey=True).flatten()
        for panel, method in zip(panels, methods, strict=False):
            _panel(panel, method, colour)
        for empty in panels[len(methods) :]:
            empty.set_visible(False)
        seeds = max(len(method.runs) for method in methods)
        note = f"lines: mean of {seeds} seeds, smoothed; bands: lowest to highest seed" if seeds > 1 else "smoothed"
        drawn.supxlabel(f"step    ({note}; grey: stages)", fontsize=9)
        drawn.supylabel("primary reward in training", fontsize=10)
        shown = [task for task in study.tasks if any(task in run.rewards for m in methods for run in m.runs)]
        handles = [panels[0].plot([], [], color=colour[task], lw=3, label=task)[0] for task in shown]
        drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return drawn


def _panel(axes: Axes, method: Method, colour: Mapping[str, str]) -> None:
    stages = next((run.stages for run in method.runs if run.stages), ())
    ends = [0, *accumulate(stage.steps for stage in stages)]
    for index in range(len(stages)):
        axes.axvspan(ends[index], ends[index + 1], color="#f4f4f4" if index % 2 == 0 else "#e8e8e8", lw=0, zorder=0)
    window = max(5, ends[-1] // 20) | 1  # odd, so that it has a middle
    for task, shade in colour.items():
        runs = [run.rewards[task] for run in method.runs if run.rewards.get(task)]
        if runs:
            steps, curves = _aligned(runs, window)
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=shade, alpha=0.2, lw=0)
            axes.plot(steps, curves.mean(axis=0), color=shade, lw=1.8)
    axes.set_title(method.name, fontsize=10, color=INK, pad=4)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, max(1, ends[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    axes.spines[["top", "right"]].set_visible(False)


def _aligned(runs: Sequence[Sequence[tuple[int, float]]], window: int) -> tuple[list[int], np.ndarray]:
    """Smoothed curves at the steps that all runs have: shape (runs, steps)."""
    steps = sorted(set.intersection(*({step for step, _ in run} for run in runs)))
    wanted = set(steps)
    curves = [moving_average([value for step, value in sorted(run) if step in wanted], window) for run in runs]
    return steps, np.array(curves)
