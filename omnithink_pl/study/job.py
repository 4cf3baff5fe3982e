"""What a process said last."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from omnithink_pl.errors import BadInput

_TAIL = 4096  # bytes


def last_line(path: Path) -> str:
    """The last line with anything on it of a log that is being written; empty if there is none yet."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _TAIL))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextmanager
def free_to_run(folder: Path) -> Iterator[int | None]:
    """Take the right to work in a folder.

    The lock belongs to the open file: a child process that inherits it holds it as long as it lives. The kernel
    releases it when the last of its holders has ended, however it ended.

    Args:
        folder: The folder; made if it does not exist.

    Yields:
        The lock, as a file descriptor to inherit; ``None`` if another process has it.

    Raises:
        BadInput: If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError:
        yield None
    finally:
        os.close(lock)


# Verbs with Lightning's trainer: they take its arguments, and track themselves.
TRAINER_VERBS = ("fit", "predict", "prepare", "score", "validate")


@dataclass(frozen=True)
class Job:
    """One run with one seed, its arguments filled in.

    Args:
        run: Name of the run in its study.
        seed: The seed.
        verb: What ``main.py`` is asked to do.
        arguments: What follows.
        folder: Where its files go.
        fingerprint: Identifies what is run, apart from the seed: arguments, configs, and what it needs.
        needs: Keys of the jobs that come first.
    """

    run: str
    seed: int
    verb: str
    arguments: tuple[str, ...]
    folder: Path
    fingerprint: str
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``joint/0``: the run and its seed."""
        return f"{self.run}/{self.seed}"

    def command(self, tracking_uri: str, experiment: str) -> list[str]:
        """Verb and arguments of ``main.py``; a fit that left a checkpoint goes on from there.

        Args:
            tracking_uri: The store that it is tracked in.
            experiment: The experiment that it belongs to.
        """
        return [self.verb, *self.arguments, *self._own_arguments(tracking_uri, experiment)]

    def _own_arguments(self, tracking_uri: str, experiment: str) -> list[str]:
        if self.verb not in TRAINER_VERBS:
            return []
        logger = "--trainer.logger.init_args"
        arguments = [
            f"--seed_everything={self.seed}",
            f"--name={self.run}",
            f"--trainer.default_root_dir={self.folder.parents[1]}",
            f"{logger}.tracking_uri={tracking_uri}",
            f"{logger}.experiment_name={experiment}",
        ]
        if self.verb != "fit":
            return arguments
        last = self.folder / "last.ckpt"
        return [
            *arguments,
            f"--checkpoints.folder={self.folder.name}",
            *([f"--ckpt_path={last}"] if last.is_file() else []),
        ]


class Status(StrEnum):
    """What became of a job."""

    DONE = "done"
    SKIPPED = "finished before"
    FAILED = "failed"
    BLOCKED = "not started"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Result:
    """What became of a job, and why.

    Args:
        job: The job.
        status: What became of it.
        reason: Why it failed or was not started.
        seconds: How long it took.
    """

    job: Job
    status: Status
    reason: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether what it makes is there."""
        return self.status in (Status.DONE, Status.SKIPPED)
