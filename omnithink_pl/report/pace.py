"""How long a run will still take, from how long its steps and evaluations took."""

from __future__ import annotations

import statistics

_WARM_UP = 2  # the first steps start worker processes and fill caches


class Pace:
    """Durations of steps and evaluations.

    Args:
        window: Steps that the present pace is averaged over; tasks differ in length.
    """

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
        """Seconds that remain; ``None`` until the pace is known.

        Args:
            steps: Steps to go.
            evaluations: Evaluations to go. They count nothing until one has been timed.
        """
        if self.seconds_per_step is None:
            return None
        each = statistics.fmean(self._evaluations) if self._evaluations else 0.0
        return steps * self.seconds_per_step + evaluations * each


def clock(seconds: float | None) -> str:
    """``1:05`` or ``2:01:05``; ``-:--`` where unknown."""
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
