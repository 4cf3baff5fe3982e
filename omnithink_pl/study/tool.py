"""Shows a study while it runs, and what became of it."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnithink_pl.errors import OmniThinkError
from omnithink_pl.report.live import clock
from omnithink_pl.study.definition import Definition, Run, check, chosen
from omnithink_pl.study.job import Job, Result, Status, last_line
from omnithink_pl.study.runner import Runner, make_slots, visible_gpus
from omnithink_pl.tracking.runs import StudyLedger
from omnithink_pl.tracking.store import sqlite_path

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


class StudyIncomplete(OmniThinkError):
    """Some runs of a study are not done; the command line exits with an error."""


class Study:
    """Runs many configurations with several seeds as one study, which continues where it was interrupted.

    Each run is a process of its own and a child of the study's run in MLflow. Those that have finished are not run
    again, unless their arguments or configs have changed.

    Args:
        name: Name of the study.
        runs: What is run, by name.
        seeds: Every run is done once with each.
        arguments: Further arguments of every run, by verb, such as ``{fit: [--trainer.devices=2]}``; they win.
        jobs: Processes at the same time; one for each GPU, or one alone without GPUs, if not given.
        output: Folder for the files of all studies.
        tracking_uri: Where runs are stored.
        experiment: Experiment of the study and its runs.
        only: Do only these, such as ``[joint, reverse/0]``, where ``/0`` is a seed.
        dry_run: Print the command of each run, and what has been done of the study; run nothing.
        list_jobs: Print one command for each run that is not done, for a cluster's scheduler; run nothing.
    """

    def __init__(
        self,
        name: str,
        runs: dict[str, Run],
        seeds: list[int],
        arguments: dict[str, list[str]] | None = None,
        jobs: int | None = None,
        output: str = "outputs",
        tracking_uri: str = "sqlite:///mlflow.db",
        experiment: str = "omnithink",
        only: list[str] | None = None,
        dry_run: bool = False,
        list_jobs: bool = False,
    ) -> None:
        # The program that was called is the one that the runs call.
        self.program = [sys.executable, sys.argv[0]]
        base = Path(sys.argv[0]).resolve().parent / "configs" / "base.yaml"
        defaults = base if base.is_file() else None
        self.definition = Definition(name, runs, seeds, arguments or {}, Path(output), defaults)
        check(self.definition)
        self.slots = make_slots(jobs, visible_gpus())
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.only = only
        self.dry_run = dry_run
        self.list_jobs = list_jobs
        self.console = Console()

    def run(self) -> None:
        """Do what is not done yet.

        Raises:
            StudyIncomplete: If something failed, or the study was stopped.
        """
        every = self.definition.jobs()
        jobs = chosen(every, self.only)
        if self.dry_run or self.list_jobs:
            self._print(jobs)
            return
        ledger = self._ledger()
        ledger.begin()
        with StudyDisplay(self.definition.name, len(jobs), self.console) as display:
            runner = Runner(self.program, ledger, self.slots, display, self.tracking_uri, self.experiment)
            results = runner.run(jobs, {job.key: job for job in every})
        self._close(ledger, results, len(jobs) == len(every))

    def _close(self, ledger: StudyLedger, results: list[Result], whole: bool) -> None:
        statuses = {result.status for result in results}
        stopped, failed = Status.STOPPED in statuses, bool(statuses & {Status.FAILED, Status.BLOCKED})
        if stopped or failed or whole:
            ledger.end("KILLED" if stopped else "FAILED" if failed else "FINISHED")
        self.console.print(summary(results, self._repeat), soft_wrap=True, highlight=False)
        if stopped:
            raise StudyIncomplete("stopped; the same command goes on from here")
        if failed:
            raise StudyIncomplete("some runs failed; the same command tries them again, and those that wait for them")

    def _ledger(self) -> StudyLedger:
        return StudyLedger(self.tracking_uri, self.experiment, self.definition.describe())

    def _print(self, jobs: list[Job]) -> None:
        database = sqlite_path(self.tracking_uri)
        ledger = None if database is not None and not database.exists() else self._ledger()
        for job in jobs:
            done = ledger is not None and ledger.finished(job)
            if self.list_jobs and not done:
                after = f"  # after {', '.join(job.needs)}" if job.needs else ""
                self._plain(f"{self._repeat(job)}{after}")
            elif self.dry_run:
                command = [*self.program, *job.command(self.tracking_uri, self.experiment)]
                self._plain(f"# {job.key}{' (finished)' if done else ''}\n{shlex.join(command)}")

    def _plain(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _repeat(self, job: Job) -> str:
        """The command that does one job of this study."""
        dropped = ("--only", "--dry_run", "--list_jobs")
        given = [argument for argument in sys.argv[1:] if not argument.startswith(dropped)]
        return shlex.join([*self.program, *given, f"--only=[{job.key}]"])
