"""One run with one seed as a process: its command, its log, how it ended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LOG = "log.txt"  # output of a job's process, in the job's folder
# Verbs with Lightning's trainer: they take its arguments, and track themselves.
_TRAINER_VERBS = ("fit", "predict", "prepare", "score", "validate")
_TAIL = 4096  # bytes


@dataclass(frozen=True)
class Job:
    """One run with one seed, its arguments filled in."""

    run: str  # name of the run in its study
    seed: int
    verb: str
    arguments: tuple[str, ...]
    folder: Path  # folder of its files
    fingerprint: str  # identifies what is run, apart from the seed: arguments, configs, and the runs that it needs
    needs: tuple[str, ...] = ()  # keys of the jobs that come first

    @property
    def key(self) -> str:
        """``joint/0``: the run and its seed."""
        return f"{self.run}/{self.seed}"

    def command(self, tracking_uri: str, experiment: str) -> list[str]:
        """Return verb and arguments of ``main.py``; a fit that left a checkpoint resumes from it."""
        command = [self.verb, *self.arguments]
        if self.verb in _TRAINER_VERBS:
            command += [
                f"--seed_everything={self.seed}",
                f"--name={self.run}",
                f"--trainer.default_root_dir={self.folder.parents[1]}",
                f"--trainer.logger.init_args.tracking_uri={tracking_uri}",
                f"--trainer.logger.init_args.experiment_name={experiment}",
            ]
        if self.verb == "fit":
            last = self.folder / "last.ckpt"
            command += [f"--checkpoints.folder={self.folder.name}"]
            command += [f"--ckpt_path={last}"] if last.is_file() else []
        return command


class Status(StrEnum):
    """How a job ended."""

    DONE = "done"
    SKIPPED = "finished before"
    FAILED = "failed"
    BLOCKED = "not started"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Result:
    """How a job ended, and why."""

    job: Job
    status: Status
    reason: str = ""
    seconds: float = 0.0


def last_line(path: Path) -> str:
    """Return the last line that is not blank of a log that is being written; empty if there is none yet."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
