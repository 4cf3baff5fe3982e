"""How jobs of a study end, and the display of their progress and results on the console."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnithink_pl.report.live import clock
from omnithink_pl.study.definition import Job

LOG = "log.txt"  # output of a job's process, in the job's folder
_TAIL = 4096  # bytes


class Status(StrEnum):
    """How a job ended."""

    DONE = "done"
    SKIPPED = "finished before"
    FAILED = "failed"
    BLOCKED = "not started"
    STOPPED = "stopped"


_STYLES = {
    Status.DONE: "green",
    Status.SKIPPED: "dim",
    Status.FAILED: "bold red",
    Status.BLOCKED: "yellow",
    Status.STOPPED: "yellow",
}


@dataclass(frozen=True)
class Result:
    """How a job ended, and why."""

    job: Job
    status: Status
    reason: str = ""
    seconds: float = 0.0


class StudyDisplay:
    """Prints a line for every job that ends; in a terminal also the last line of each running job's log."""

    def __init__(self, name: str, total: int, console: Console) -> None:
        self.name = name
        self.total = total
        self.console = console
        # Replaced and never changed in place, because the display reads it from its own thread.
        self._running: dict[str, tuple[Job, float]] = {}
        self._ended = 0
        self._start = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> StudyDisplay:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(get_renderable=self._view, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, job: Job) -> None:
        """Note that a job's process was started."""
        self._running = {**self._running, job.key: (job, time.monotonic())}
        if self._live is None:
            self._print(job, ("started", "dim"))

    def busy(self, job: Job) -> None:
        """Note that another process is running this job, for example one of an earlier start that is still saving."""
        self._print(job, ("another process is still running it; waiting", "yellow"))

    def ended(self, result: Result) -> None:
        """Note that a job has ended."""
        self._running = {key: value for key, value in self._running.items() if key != result.job.key}
        self._ended += 1
        took = f"  {clock(result.seconds)}" if result.seconds else ""
        why = f"  {result.reason}" if result.reason else ""
        self._print(result.job, (result.status, _STYLES[result.status]), f"{took}  [{self._ended}/{self.total}]{why}")

    def _print(self, job: Job, status: tuple[str, str], details: str = "") -> None:
        self.console.print(Text.assemble(f"{job.key:<24}", status, details), highlight=False, soft_wrap=True)

    def _view(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self.name, style="bold"),
            ProgressBar(total=max(self.total, 1), completed=self._ended, width=30),
            f"{self._ended}/{self.total} runs",
            f"{clock(time.monotonic() - self._start)} elapsed",
        )
        table = Table.grid(padding=(0, 2))
        for job, since in self._running.values():
            line = Text(last_line(job.folder / LOG), style="dim", overflow="ellipsis", no_wrap=True)
            table.add_row(job.key, clock(time.monotonic() - since), line)
        return Group(head, table)


def summary(results: Sequence[Result], command: Callable[[Job], str]) -> Group:
    """Return how many jobs ended how, and for each that failed the reason, its log, and the command that repeats it."""
    counts = Counter(result.status for result in results)
    lines = [Text(", ".join(f"{count} {status}" for status, count in counts.items()), style="bold")]
    for result in results:
        if result.status is Status.FAILED:
            lines.append(Text(f"\n{result.job.key} failed with {result.reason}", style="red"))
            lines.append(Text(f"  log     {result.job.folder / LOG}"))
            lines.append(Text(f"  repeat  {command(result.job)}"))
    return Group(*lines)


def last_line(path: Path) -> str:
    """Return the last line that is not blank of a log that is being written; empty if there is none yet."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
