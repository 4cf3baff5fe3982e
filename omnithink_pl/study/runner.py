"""How many processes run at the same time, and which device each has."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from omnithink_pl.errors import BadInput
from omnithink_pl.study import child
from omnithink_pl.study.job import Job, Result, Status, free_to_run, last_line

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def make_slots(jobs: int | None, gpus: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each process that may run at the same time.

    Args:
        jobs: Number of processes; one for each GPU, or one alone without GPUs, if not given.
        gpus: Names of the GPUs, as CUDA knows them. More processes than GPUs share them evenly.

    Raises:
        BadInput: If ``jobs`` is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"jobs is {jobs}; use 1 or more, or leave it out for one process per GPU")
    number = jobs or max(1, len(gpus))
    if len(gpus) < 2:
        return [{} for _ in range(number)]
    return [{_VISIBLE: gpus[index % len(gpus)]} for index in range(number)]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by number or name."""
    import torch

    named = os.environ.get(_VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


_LOCK_POLL = 1.0  # seconds between looks at a job that another process is busy with


class Ledger(Protocol):
    """Where it stands what has been done."""

    def finished(self, job: Job) -> bool:
        """Whether the job has been done."""
        ...

    def began(self, job: Job) -> bool:
        """Whether the job's own process has recorded anything."""
        ...

    def record(self, job: Job) -> None:
        """Note as done a job whose process records nothing itself."""
        ...

    def environment(self, job: Job) -> dict[str, str]:
        """Environment variables by which the job's own records become part of the study."""
        ...


class Watcher(Protocol):
    """Is told what happens."""

    def started(self, job: Job) -> None:
        """A process was started."""
        ...

    def busy(self, job: Job) -> None:
        """Another process is still at this job, for example one of an earlier attempt that is saving its state."""
        ...

    def ended(self, result: Result) -> None:
        """A job came to its end."""
        ...


class Runner:
    """Does jobs after those that they need; what has been done is not done again.

    A process that is interrupted continues when the job is done again. The first SIGINT or SIGTERM lets the running
    processes save their state, a second one kills them. If this process is killed outright, the kernel tells them.

    Args:
        program: The command line that takes a job's verb and arguments.
        ledger: Where it stands what has been done.
        slots: One set of environment variables for each process that may run at the same time.
        watcher: Is told what happens.
        tracking_uri: The store that jobs are tracked in.
        experiment: The experiment that they belong to.
    """

    def __init__(
        self,
        program: Sequence[str],
        ledger: Ledger,
        slots: Sequence[Mapping[str, str]],
        watcher: Watcher,
        tracking_uri: str,
        experiment: str,
    ) -> None:
        self.program = list(program)
        self.ledger = ledger
        self.watcher = watcher
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self._slots: asyncio.Queue[Mapping[str, str]] = asyncio.Queue()
        for slot in slots:
            self._slots.put_nowait(slot)
        self._processes: set[asyncio.subprocess.Process] = set()
        self._signals = 0

    def run(self, jobs: Sequence[Job], known: Mapping[str, Job]) -> list[Result]:
        """Do jobs.

        Args:
            jobs: What is to be done; a job stands behind those that it needs.
            known: Every job of the study by key, to look up what is needed but not asked for.

        Returns:
            What became of each, in the same order.
        """
        return asyncio.run(self._run(jobs, known))

    async def _run(self, jobs: Sequence[Job], known: Mapping[str, Job]) -> list[Result]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        tasks: dict[str, asyncio.Task[Result]] = {}
        for job in jobs:
            tasks[job.key] = asyncio.create_task(self._do(job, tasks, known))
        return [await task for task in tasks.values()]

    async def _do(self, job: Job, tasks: Mapping[str, asyncio.Task[Result]], known: Mapping[str, Job]) -> Result:
        missing = [need for need in job.needs if not await self._have(need, tasks, known)]
        if self.ledger.finished(job):
            result = Result(job, Status.SKIPPED)
        elif missing and not self._signals:
            result = Result(job, Status.BLOCKED, f"needs {', '.join(missing)}")
        else:
            result = await self._in_turn(job)
        self.watcher.ended(result)
        return result

    async def _have(self, need: str, tasks: Mapping[str, asyncio.Task[Result]], known: Mapping[str, Job]) -> bool:
        if need in tasks:
            return (await tasks[need]).good
        return self.ledger.finished(known[need])

    async def _in_turn(self, job: Job) -> Result:
        told = False
        while True:
            async with self._slot() as environment:
                if self._signals:
                    return Result(job, Status.STOPPED, "before it was started")
                with free_to_run(job.folder) as lock:
                    if lock is not None and self.ledger.finished(job):
                        return Result(job, Status.SKIPPED)
                    if lock is not None:
                        return await self._attempt(job, environment, lock)
            if not told:
                self.watcher.busy(job)
                told = True
            await asyncio.sleep(_LOCK_POLL)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[Mapping[str, str]]:
        slot = await self._slots.get()
        try:
            yield slot
        finally:
            self._slots.put_nowait(slot)

    async def _attempt(self, job: Job, environment: Mapping[str, str], lock: int) -> Result:
        began = time.monotonic()
        self.watcher.started(job)
        code = await self._execute(job, environment, lock)
        return self._judge(job, code, time.monotonic() - began)

    async def _execute(self, job: Job, environment: Mapping[str, str], lock: int) -> int:
        command = [*self.program, *job.command(self.tracking_uri, self.experiment)]
        launcher = [sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid())]
        with (job.folder / "log.txt").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **environment, **self.ledger.environment(job)},
                pass_fds=(lock,),  # held as long as the process lives, whatever becomes of this one
                start_new_session=True,  # a Ctrl-C in the terminal reaches it through _stop alone
            )
        self._processes.add(process)
        try:
            return await process.wait()
        finally:
            self._processes.discard(process)

    def _judge(self, job: Job, code: int, seconds: float) -> Result:
        """Exit codes are not enough: a fit that is told to end saves its state and exits with 0."""
        if self.ledger.finished(job):
            return Result(job, Status.DONE, seconds=seconds)
        if self._signals:
            return Result(job, Status.STOPPED, seconds=seconds)
        tracked = job.verb == "fit" or self.ledger.began(job)
        if code == 0 and not tracked:
            self.ledger.record(job)
            return Result(job, Status.DONE, seconds=seconds)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        line = last_line(job.folder / "log.txt")
        return Result(job, Status.FAILED, f"{how}: {line}" if line else how, seconds)

    def _stop(self) -> None:
        self._signals += 1
        for process in list(self._processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)
