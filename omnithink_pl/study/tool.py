"""The verb ``study``: run, resume or print the jobs of a study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console

from omnithink_pl.errors import OmniThinkError
from omnithink_pl.study.definition import Definition, Job, Run, select_jobs
from omnithink_pl.study.display import Status, StudyDisplay, summary
from omnithink_pl.study.runner import Runner, make_slots, visible_gpus
from omnithink_pl.study.tracker import StudyTracker
from omnithink_pl.tracking.store import find_store, sqlite_path


class StudyIncomplete(OmniThinkError):
    """Some runs of a study are not done; the command line exits with an error."""


class Study:
    """Runs many configurations with several seeds as one study, which continues where it was interrupted.

    Each run is a process of its own and a child of the study's run in MLflow. Those that have finished are not run
    again, unless their arguments or configs have changed.

    Args:
        name: Name of the study.
        runs: Its runs by name.
        seeds: Every run is repeated with each.
        arguments: Further arguments of every run, by verb, such as ``{fit: [--trainer.devices=2]}``; they win.
        jobs: Processes at the same time; one for each GPU, or a single one without GPUs, if not given.
        output: Folder for the files of all studies.
        tracking_uri: Where runs are stored; ``$MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db``, if not given.
        experiment: Experiment of the study and its runs.
        only: Run only these, such as ``[joint, reverse/0]``, where ``/0`` is a seed.
        dry_run: Print the command of each run, and which are finished; run nothing.
        list_jobs: Print one command for each run that is not done, for a cluster's scheduler; run nothing.
        defaults: The config that every run reads first; the command line fills it in.
    """

    def __init__(
        self,
        name: str,
        runs: dict[str, Run],
        seeds: list[int],
        arguments: dict[str, list[str]] | None = None,
        jobs: int | None = None,
        output: str = "outputs",
        tracking_uri: str | None = None,
        experiment: str = "omnithink",
        only: list[str] | None = None,
        dry_run: bool = False,
        list_jobs: bool = False,
        defaults: Path | None = None,
    ) -> None:
        # The program that was called is the one that the runs call.
        self.program = [sys.executable, sys.argv[0]]
        self.definition = Definition(name, runs, seeds, arguments or {}, Path(output), defaults)
        self.slots = make_slots(jobs, visible_gpus())
        self.tracking_uri = find_store(tracking_uri)
        self.experiment = experiment
        self.only = only
        self.dry_run = dry_run
        self.list_jobs = list_jobs
        self.console = Console()

    def run(self) -> None:
        """Run what is not done yet; raises :class:`StudyIncomplete` if something failed, or the study was stopped."""
        every = self.definition.jobs()
        jobs = select_jobs(every, self.only)
        if self.dry_run or self.list_jobs:
            self._print_commands(jobs)
            return
        tracker = self._tracker()
        tracker.begin()
        with StudyDisplay(self.definition.name, len(jobs), self.console) as display:
            runner = Runner(self.program, tracker, self.slots, display)
            results = runner.run(jobs, {job.key: job for job in every})
        statuses = {result.status for result in results}
        stopped, failed = Status.STOPPED in statuses, bool(statuses & {Status.FAILED, Status.BLOCKED})
        if stopped or failed or len(jobs) == len(every):
            tracker.end("KILLED" if stopped else "FAILED" if failed else "FINISHED")
        self.console.print(summary(results, self._command), soft_wrap=True, highlight=False)
        if stopped and runner.told_to_end:
            raise SIGTERMException
        if stopped:
            raise StudyIncomplete("stopped; the same command resumes it")
        if failed:
            raise StudyIncomplete("some runs failed; the same command tries them again, and those that wait for them")

    def _tracker(self) -> StudyTracker:
        return StudyTracker(self.tracking_uri, self.experiment, self.definition.describe())

    def _print_commands(self, jobs: list[Job]) -> None:
        database = sqlite_path(self.tracking_uri)
        tracker = None if database is not None and not database.exists() else self._tracker()
        for job in jobs:
            done = tracker is not None and tracker.finished(job)
            if self.list_jobs and not done:
                after = f"  # after {', '.join(job.needs)}" if job.needs else ""
                self._print(f"{self._command(job)}{after}")
            elif self.dry_run:
                command = [*self.program, *job.command(self.tracking_uri, self.experiment)]
                self._print(f"# {job.key}{' (finished)' if done else ''}\n{shlex.join(command)}")

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _command(self, job: Job) -> str:
        """The command that runs a single job of this study."""
        dropped = ("--only", "--dry_run", "--list_jobs")
        given = [argument for argument in sys.argv[1:] if not argument.startswith(dropped)]
        return shlex.join([*self.program, *given, f"--only=[{job.key}]"])
