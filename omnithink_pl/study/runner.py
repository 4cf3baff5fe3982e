"""Run the jobs of a study in processes, several at the same time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from omnithink_pl.errors import BadInput
from omnithink_pl.study import child
from omnithink_pl.study.definition import Job
from omnithink_pl.study.display import LOG, Result, Status, StudyDisplay, last_line
from omnithink_pl.study.tracker import StudyTracker

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOCK_POLL = 1.0  # seconds between looks at a job that another process is running


class Runner:
    """Runs jobs after those that they need; what is done is not run again.

    A process that is interrupted resumes when its job is run again. The first SIGINT or SIGTERM lets the running
    processes save their state, a second one kills them. If this process is killed outright, the kernel tells them.
    ``slots`` has one set of environment variables for each process that may run at the same time.
    """

    def __init__(
        self, program: Sequence[str], tracker: StudyTracker, slots: Sequence[Mapping[str, str]], display: StudyDisplay
    ) -> None:
        self.program = program
        self.tracker = tracker
        self.display = display
        self._slots: asyncio.Queue[Mapping[str, str]] = asyncio.Queue()
        for slot in slots:
            self._slots.put_nowait(slot)
        self._processes: set[asyncio.subprocess.Process] = set()
        self._signals = 0
        self.told_to_end = False  # by SIGTERM

    def run(self, jobs: Sequence[Job], known: Mapping[str, Job]) -> list[Result]:
        """Run jobs, each listed after those that it needs; return how each ended, in the same order.

        ``known`` has every job of the study by key, to look up those that are needed but not listed.
        """
        return asyncio.run(self._run_all(jobs, known))

    async def _run_all(self, jobs: Sequence[Job], known: Mapping[str, Job]) -> list[Result]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        tasks: dict[str, asyncio.Task[Result]] = {}
        for job in jobs:
            tasks[job.key] = asyncio.create_task(self._run_one(job, tasks, known))
        return [await task for task in tasks.values()]

    async def _run_one(self, job: Job, tasks: Mapping[str, asyncio.Task[Result]], known: Mapping[str, Job]) -> Result:
        missing = []
        for need in job.needs:
            if need in tasks:
                done = (await tasks[need]).status in (Status.DONE, Status.SKIPPED)
            else:
                done = self.tracker.finished(known[need])
            if not done:
                missing.append(need)
        if self.tracker.finished(job):
            result = Result(job, Status.SKIPPED)
        elif missing and not self._signals:
            result = Result(job, Status.BLOCKED, f"needs {', '.join(missing)}")
        else:
            result = await self._wait_and_execute(job)
        self.display.ended(result)
        return result

    async def _wait_and_execute(self, job: Job) -> Result:
        """Wait for a slot and for the job's lock, then run the job."""
        told = False
        while True:
            slot = await self._slots.get()
            try:
                if self._signals:
                    return Result(job, Status.STOPPED, "before it was started")
                with lock_folder(job.folder) as lock:
                    if lock is not None and self.tracker.finished(job):
                        return Result(job, Status.SKIPPED)
                    if lock is not None:
                        return await self._execute(job, slot, lock)
            finally:
                self._slots.put_nowait(slot)
            if not told:
                self.display.busy(job)
                told = True
            await asyncio.sleep(_LOCK_POLL)

    async def _execute(self, job: Job, slot: Mapping[str, str], lock: int) -> Result:
        started = time.monotonic()
        self.display.started(job)
        launcher = [sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid())]
        with (job.folder / LOG).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *self.program,
                *job.command(self.tracker.uri, self.tracker.experiment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **slot, **self.tracker.environment(job)},
                pass_fds=(lock,),  # held as long as the process lives, even if this one dies
                start_new_session=True,  # a Ctrl-C in the terminal reaches it through _stop alone
            )
        self._processes.add(process)
        try:
            code = await process.wait()
        finally:
            self._processes.discard(process)
        return self._result(job, code, time.monotonic() - started)

    def _result(self, job: Job, code: int, seconds: float) -> Result:
        """Exit codes are not enough: a fit that is told to end saves its state and exits with 0."""
        if self.tracker.finished(job):
            return Result(job, Status.DONE, seconds=seconds)
        if self._signals:
            return Result(job, Status.STOPPED, seconds=seconds)
        if code == 0 and job.verb != "fit" and not self.tracker.started(job):  # a verb that tracks nothing
            self.tracker.record(job)
            return Result(job, Status.DONE, seconds=seconds)
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        line = last_line(job.folder / LOG)
        return Result(job, Status.FAILED, f"{cause}: {line}" if line else cause, seconds)

    def _stop(self, number: signal.Signals) -> None:
        self._signals += 1
        self.told_to_end = self.told_to_end or number is signal.SIGTERM
        for process in list(self._processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)


def make_slots(jobs: int | None, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment of each of ``jobs`` processes that run at the same time; they share the GPUs evenly.

    Two of eight GPUs have four each; a single one has all, for a run of several processes. If ``jobs`` is not given:
    one for each GPU, or a single one without GPUs.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"jobs is {jobs}; use 1 or more, or leave it out for one process per GPU")
    number = jobs or max(1, len(gpus))
    if number == 1 or len(gpus) < 2:
        return [{}] * number
    return [{_VISIBLE: ",".join(gpus[index::number]) or gpus[index % len(gpus)]} for index in range(number)]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by number or name."""
    import torch

    named = os.environ.get(_VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


@contextmanager
def lock_folder(folder: Path) -> Iterator[int | None]:
    """Lock a folder against other processes; yields the file descriptor, or ``None`` if another process holds the lock.

    The lock belongs to the open file: a child process that inherits the descriptor holds the lock as long as it lives.
    The kernel releases it when the last holder has ended, however it ended.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"output: cannot write to {folder}: {error}; make it writable or choose another") from error
    held: int | None = lock
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = None
        yield held
    finally:
        os.close(lock)
