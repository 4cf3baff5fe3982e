"""The live display of a fit: stage, rewards, metrics at a glance, and the time left."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from omnithink_pl.report.output import percent

_WARM_UP = 2  # steps left out: they start worker processes and fill caches
# Label and format of the metrics shown, in this order.
_METRICS = {
    "train/kl": ("KL", ".4f"),
    "train/entropy": ("entropy", ".2f"),
    "train/completion_length": ("length", ".0f"),
    "train/mixed_groups": ("mixed groups", ".2f"),
    "train/failed": ("failed", ".2f"),
}


class Pace:
    """Estimates the time left from evaluations and from the last ``window`` steps, as tasks differ in length."""

    def __init__(self, window: int = 20) -> None:
        self.window = window
        # Replaced and never changed in place: a display may read them from another thread.
        self._steps: tuple[float, ...] = ()
        self._evaluations: tuple[float, ...] = ()
        self._seen = 0

    def step_took(self, seconds: float) -> None:
        """Note the duration of a step."""
        self._seen += 1
        if self._seen > _WARM_UP:
            self._steps = (*self._steps, seconds)[-self.window :]

    def evaluation_took(self, seconds: float) -> None:
        """Note the duration of an evaluation of all tasks."""
        self._evaluations = (*self._evaluations, seconds)

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the last steps; ``None`` until some are known."""
        return statistics.fmean(self._steps) if self._steps else None

    def left(self, steps: int, evaluations: int) -> float | None:
        """Return the seconds that remain; ``None`` until the pace is known."""
        if self.seconds_per_step is None:
            return None
        each = statistics.fmean(self._evaluations) if self._evaluations else 0.0
        return steps * self.seconds_per_step + evaluations * each


def clock(seconds: float | None) -> str:
    """Return ``1:05`` or ``2:01:05``; ``-:--`` if unknown."""
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@dataclass(frozen=True)
class TaskView:
    """One task's line."""

    latest: float | None  # mean primary reward of its last batch; ``None`` before one
    average: float | None  # mean over its last batches
    scores: Sequence[float]  # held-out scores so far, one per row of the score matrix


@dataclass(frozen=True)
class Snapshot:
    """The state of a fit."""

    name: str  # kind of run
    stage: int  # number of the stage, from 1
    stages: int  # number of stages
    stage_name: str  # its tasks
    steps: int  # finished steps
    total: int  # steps of all stages
    phase: str  # ``training`` or ``evaluating``
    elapsed: float  # seconds since the start of the fit
    left: float | None  # seconds that remain; ``None`` if unknown
    seconds_per_step: float | None  # present pace; ``None`` if unknown
    tasks: Mapping[str, TaskView]  # by name, those that the run trains or evaluates
    metrics: Mapping[str, float]  # the last step's metrics


def live_view(now: Snapshot) -> RenderableType:
    """Return the display of a terminal, at most 80 columns wide."""
    head = Text.assemble(
        (now.name, "bold"), f"  stage {now.stage} of {now.stages}: ", (now.stage_name, "bold"), f"  {now.phase}"
    )
    head.truncate(79, overflow="ellipsis")
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=max(now.total, 1), completed=now.steps, width=30),
        f"{now.steps}/{now.total} steps",
        f"{clock(now.elapsed)} elapsed",
        f"{clock(now.left)} left",
    )
    names = (Column(name, justify="right", min_width=8) for name in ("reward", "average"))
    scores = Column("  held-out score", no_wrap=True, overflow="ellipsis")
    table = Table(Column("task", min_width=10), *names, scores, box=None, pad_edge=False, header_style="dim")
    for task, view in now.tasks.items():
        rewards = ("" if value is None else f"{value:.2f}" for value in (view.latest, view.average))
        table.add_row(task, *rewards, f"  {' → '.join(map(percent, view.scores))}")
    parts = [f"{label} {now.metrics[name]:{spec}}" for name, (label, spec) in _METRICS.items() if name in now.metrics]
    if now.seconds_per_step is not None:
        parts.append(f"{now.seconds_per_step:.2f} s/step")
    return Group(head, bar, table, Text("  ".join(parts), style="dim"))


def status_line(now: Snapshot) -> str:
    """Return the same in one line, for a log file, with the rewards of the last step's tasks only."""
    rewards = [
        f"{task} {view.latest:.2f} (avg {view.average:.2f})"
        for task, view in now.tasks.items()
        if view.latest is not None and view.average is not None and f"train/{task}/reward" in now.metrics
    ]
    kl = now.metrics.get("train/kl")
    parts = [
        f"step {now.steps:>{len(str(now.total))}}/{now.total}",
        f"stage {now.stage}/{now.stages} {now.stage_name}",
        "reward " + ", ".join(rewards) if rewards else "",
        f"KL {kl:.4f}" if kl is not None else "",
        f"left {clock(now.left)}",
    ]
    return "  ".join(part for part in parts if part)
