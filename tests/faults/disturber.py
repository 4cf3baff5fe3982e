"""The callback that disturbs the run in which it is, or counts the moments at which it could."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from omnithink_pl.sandbox.box import Box
from omnithink_pl.sandbox.workers import _Worker
from omnithink_pl.tracking import TrackingLogger
from omnithink_pl.tracking.outbox import Outbox
from tests.faults.plans import Fault, Site

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
BALLAST = "ballast"
PATIENCE = 20.0  # seconds


class Disturber(L.Callback):
    """Does what a plan says when its moment has come.

    Args:
        orders: File with the plan and what it needs: ``folders``, and the processes ``judge`` and ``server``. Without
            a plan, the moments are counted, and written beside it.
    """

    def __init__(self, orders: str) -> None:
        self.orders = Path(orders)
        self.places = json.loads(self.orders.read_text())
        self.plan = self.places.get("plan")
        self.counts: Counter[str] = Counter()
        self.busy = False

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Watch the moments."""
        self._watch(pl_module.engine, "generate", Site.SAMPLE)
        self._watch(TrackingLogger, "log_metrics", Site.LOG)
        self._watch(Box, "submit", Site.BOX)
        self._watch(_Worker, "ask", Site.WORKER)
        sys.addaudithook(self._on_event)
        # A store that is away until the run ends would be waited for at its end, ten minutes by default.
        Outbox.drain.__defaults__ = (PATIENCE,)  # type: ignore[attr-defined]

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Write the counts."""
        if self.plan is None:
            self.orders.with_name("counts.json").write_text(json.dumps(self.counts))

    def _watch(self, owner: Any, name: str, site: Site) -> None:
        method = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._arrive(site, args[0] if args else None)
            return method(*args, **kwargs)

        setattr(owner, name, watched)

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & _WRITES:
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            path = args[0]
        else:
            return
        if isinstance(path, str | Path) and str(path).startswith(tuple(self.places["folders"].values())):
            self._arrive(Site.FILE, None)

    def _arrive(self, site: Site, at: Any) -> None:
        if self.busy:  # what the disturbance does is no moment of the run
            return
        number = self.counts[site]
        self.counts[site] += 1
        if self.plan is None or site != self.plan["site"]:
            return
        due = self.plan["number"]
        repeats = 1 + self.plan["extent"] % 2
        self.busy = True
        try:
            match Fault(self.plan["fault"]):
                case Fault.SANDBOX_KILLED | Fault.WORKER_KILLED:
                    if due <= number < due + repeats:
                        _kill_process_of(at)
                case Fault.CLOCK_BACK:
                    if number == due:
                        _set_clock_back(10_000.0)
                    if number == due + self.plan["extent"]:
                        os.kill(os.getpid(), signal.SIGKILL)
                case fault if number == due:
                    self._disturb(fault)
        finally:
            self.busy = False

    def _disturb(self, fault: Fault) -> None:
        signals = {Fault.KILL: signal.SIGKILL, Fault.SIGTERM: signal.SIGTERM, Fault.SIGINT: signal.SIGINT}
        match fault:
            case Fault.JUDGE_GONE:
                os.kill(self.places["judge"], signal.SIGKILL)
            case Fault.SERVER_GONE:
                os.kill(self.places["server"], signal.SIGKILL)
            case Fault.STORE_LOCKED:
                _lock(Path(self.places["folders"]["store"]) / "mlflow.db", self.plan["extent"])
            case Fault.DISK_FULL:
                _fill(Path(self.places["folders"][self.plan["folder"]]), self.places["mounted"])
            case _:
                os.kill(os.getpid(), signals[fault])


def _kill_process_of(box_or_worker: Any) -> None:
    process = box_or_worker._process
    process.kill()
    process._process.wait()


def _set_clock_back(seconds: float) -> None:
    """Let Python's clocks of the day go on from an earlier time; those of the kernel stay as they are."""
    now: dict[str, Callable[[], Any]] = {name: getattr(time, name) for name in ("time", "time_ns")}
    time.time = lambda: now["time"]() - seconds
    time.time_ns = lambda: now["time_ns"]() - int(seconds * 1e9)


def _lock(database: Path, seconds: int) -> None:
    """Lock a database for all others: for some seconds, or until this process ends."""
    holder = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    if seconds:
        threading.Timer(seconds, holder.rollback).start()
    else:
        _HELD.append(holder)


_HELD: list[sqlite3.Connection] = []  # or the collector would unlock it


def _fill(folder: Path, mounted: bool) -> None:
    """Fill a small disk to its last byte; where it could not be made, forbid files to grow."""
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        return
    with (folder / BALLAST).open("wb", buffering=0) as ballast:
        block = bytes(1 << 16)
        while block:
            try:
                ballast.write(block)
            except OSError:
                block = block[: len(block) // 2]
