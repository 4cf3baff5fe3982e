"""Shows a study while it runs, and what became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnithink_pl.report.pace import clock
from omnithink_pl.study.job import Job, Result, Status
from omnithink_pl.study.log import last_line

_STYLES = {
    Status.DONE: "green",
    Status.SKIPPED: "dim",
    Status.FAILED: "bold red",
    Status.BLOCKED: "yellow",
    Status.STOPPED: "yellow",
}


class StudyDisplay:
    """A line for every job that ends; in a terminal also what those that run say.

    Args:
        name: The study.
        total: Jobs to do.
        console: Where to print.
    """

    def __init__(self, name: str, total: int, console: Console) -> None:
        self.name = name
        self.total = total
        self.console = console
        self._running: dict[str, tuple[Job, float]] = {}
        self._ended = 0
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> StudyDisplay:
        """Open the display."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(get_renderable=self._picture, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        if self._live is not None:
            self._live.stop()

    def started(self, job: Job) -> None:
        """A process was started."""
        self._running = {**self._running, job.key: (job, time.monotonic())}
        if self._live is None:
            self._line(Text.assemble(f"{job.key:<24}", ("started", "dim")))

    def busy(self, job: Job) -> None:
        """Another process is still at this job."""
        self._line(Text.assemble(f"{job.key:<24}", ("another process is still at it; waiting", "yellow")))

    def ended(self, result: Result) -> None:
        """A job came to its end."""
        self._running = {key: value for key, value in self._running.items() if key != result.job.key}
        self._ended += 1
        took = f"  {clock(result.seconds)}" if result.seconds else ""
        why = f"  {result.reason}" if result.reason else ""
        count = f"[{self._ended}/{self.total}]"
        self._line(
            Text.assemble(f"{result.job.key:<24}", (result.status, _STYLES[result.status]), f"{took}  {count}{why}")
        )

    def _line(self, text: Text) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _picture(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self.name, style="bold"),
            ProgressBar(total=max(self.total, 1), completed=self._ended, width=30),
            f"{self._ended}/{self.total} runs",
            f"{clock(time.monotonic() - self._began)} gone",
        )
        table = Table.grid(padding=(0, 2))
        for job, since in self._running.values():
            said = Text(last_line(job.folder / "log.txt"), style="dim", overflow="ellipsis", no_wrap=True)
            table.add_row(job.key, clock(time.monotonic() - since), said)
        return Group(head, table)


def summary(results: Sequence[Result], repeat: Callable[[Job], str]) -> Group:
    """How many jobs came to which end, and for each that failed why, its log, and the command that repeats it.

    Args:
        results: What became of each job.
        repeat: The command that does a job again.
    """
    counts = Counter(result.status for result in results)
    lines = [Text(", ".join(f"{count} {status}" for status, count in counts.items()), style="bold")]
    for result in results:
        if result.status is Status.FAILED:
            lines.append(Text(f"\n{result.job.key} failed with {result.reason}", style="red"))
            lines.append(Text(f"  log     {result.job.folder / 'log.txt'}"))
            lines.append(Text(f"  repeat  {repeat(result.job)}"))
    return Group(*lines)
