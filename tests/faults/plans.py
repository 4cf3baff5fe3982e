"""What a seed disturbs, and at which moment; it follows from the seed and what an undisturbed run counts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What happens to a run; in the order in which seeds take them."""

    KILL = "kill -9"
    DISK_FULL = "disk full"
    SERVER_GONE = "tracking server gone"
    SIGTERM = "SIGTERM"
    JUDGE_GONE = "judge gone"
    SIGINT = "Ctrl-C"
    STORE_LOCKED = "tracking store locked"
    SANDBOX_KILLED = "sandbox killed"
    WORKER_KILLED = "worker killed"
    CLOCK_BACK = "clock back, then kill -9"


class Site(StrEnum):
    """A kind of moment; a run comes to each of them several times."""

    SAMPLE = "completions are asked for"
    LOG = "metrics are logged"
    FILE = "a file of the run is opened for writing, renamed or removed"
    BOX = "a program is sent to a sandbox"
    WORKER = "an expression is sent to a verifier"


ANYWHERE = (Site.SAMPLE, Site.LOG, Site.FILE)
SITES: dict[Fault, tuple[Site, ...]] = {
    Fault.KILL: ANYWHERE,
    Fault.SIGTERM: ANYWHERE,
    Fault.SIGINT: ANYWHERE,
    Fault.DISK_FULL: (Site.SAMPLE, Site.LOG),
    Fault.STORE_LOCKED: (Site.SAMPLE, Site.LOG),
    Fault.SERVER_GONE: (Site.SAMPLE, Site.LOG),
    Fault.CLOCK_BACK: (Site.SAMPLE, Site.LOG),
    Fault.JUDGE_GONE: (Site.SAMPLE,),
    Fault.SANDBOX_KILLED: (Site.BOX,),
    Fault.WORKER_KILLED: (Site.WORKER,),
}
FOLDERS = ("runs", "store", "artifacts")
"""Folders of a run, each of which may be on a disk of its own."""


@dataclass(frozen=True)
class Plan:
    """A disturbance.

    Args:
        seed: What it follows from.
        fault: What happens.
        site: The kind of moment.
        number: Which of these moments, from 0.
        extent: How often processes are killed, how many seconds a store is locked (0: until the run ends), how many
            moments lie between the clock's jump and the kill.
        folder: Where the disk is full.
    """

    seed: int
    fault: Fault
    site: Site
    number: int
    extent: int
    folder: str

    @classmethod
    def draw(cls, seed: int, counts: Mapping[str, int]) -> Plan:
        """Return a seed's plan; ``counts`` says how often an undisturbed run comes to each kind of moment."""
        rng = random.Random(f"faults:{seed}")
        fault = list(Fault)[seed % len(Fault)]
        site = rng.choice(SITES[fault])
        number = rng.randrange(counts[site])
        return cls(seed, fault, site, number, rng.randrange(3), rng.choice(FOLDERS))

    def __str__(self) -> str:
        where = f", {self.folder}" if self.fault is Fault.DISK_FULL else ""
        return f"seed {self.seed}: {self.fault} ({self.extent}{where}) when {self.site}, time {self.number}"
