"""The sandbox: boxes, sealed as well as this machine allows, and a pool of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, final

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox.base import RunOutcome, Verdict
from omnithink_pl.sandbox.box import Box, BoxLost
from omnithink_pl.sandbox.inside.confine import Limits
from omnithink_pl.sandbox.pair import Pair
from omnithink_pl.sandbox.selftest import leaks
from omnithink_pl.sandbox.throughput import Throughput
from omnithink_pl.sandbox.tiers import Plan, Tier, missing, plans
from omnithink_pl.sandbox.unit_tests import lacking_packages, parse_tests
from omnithink_pl.types import UnitTests

log = logging.getLogger(__name__)
_CURE = (
    "No program is run. Cure: as root, apt-get install bubblewrap libseccomp2; in a container, permit user namespaces "
    "or use a kernel with Landlock. Only where the whole machine may be lost: allow_unsafe: true."
)


@final
class HardenedSandbox:
    """Runs programs that may be meant to do harm, and finds out whether they pass their tests.

    Each worker has two boxes, one for programs and one for the test code that judges them, each sealed
    by bubblewrap or, where that is impossible, by Landlock; both with a filter of system calls and limits
    on time, memory, output, files and threads. How a box is sealed is tried out when the first program
    comes: a program of ours attempts to get out, and where it can, no program is run. docs/security.md says what
    is covered and what is not. May be used from several threads.

    Args:
        workers: Programs run at the same time; ``null`` for one per processor allotted to this process.
        timeout: Processor seconds of a program over all its tests; it may last three times as long.
        memory_mb: Address space of a run.
        output_kb: What a run may print.
        tier: How to seal; ``auto`` takes the first that works, bubblewrap before Landlock.
        allow_unsafe: Whether to run programs with no more than limits where nothing seals them.
        packages: Pure Python packages that programs may import where they are installed here.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout: float = 5.0,
        memory_mb: int = 1024,
        output_kb: int = 1024,
        tier: Literal["auto", "bubblewrap", "landlock"] = "auto",
        allow_unsafe: bool = False,
        packages: Sequence[str] = ("sortedcontainers",),
    ) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        workers = len(cpus) if workers is None else workers
        for name, value in (("workers", workers), ("timeout", timeout), ("memory_mb", memory_mb)):
            if value <= 0:
                raise BadInput(f"{name}: {value} is too small; use more than 0")
        if output_kb <= 0:
            raise BadInput(f"output_kb: {output_kb} is too small; use more than 0")
        if tier not in {"auto", "bubblewrap", "landlock"}:
            raise BadInput(f"tier: {tier!r} is none of auto, bubblewrap, landlock")
        self._tier, self._allow_unsafe, self._packages = tier, allow_unsafe, tuple(packages)
        self._limits = Limits(memory_mb)
        self._cpus, self._numbers = cpus, itertools.count(os.getpid())
        self._plan: Plan | None = None
        self._new_pair = partial(Pair, timeout, output_kb << 10)
        self._workers = workers
        self._begin()

    def _begin(self) -> None:
        """Start afresh: in a new sandbox, and in a process forked from that which made it, whose boxes it shares."""
        self._owner = os.getpid()
        self.throughput = Throughput()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pairs = [self._new_pair() for _ in range(self._workers)]
        self._idle: queue.LifoQueue[Pair] = queue.LifoQueue()
        for pair in self._pairs:
            self._idle.put(pair)
        weakref.finalize(self, _stop_all, self._pairs, self._owner)

    @property
    def tier(self) -> Tier:
        """How boxes are sealed; finds it out at the first call.

        Raises:
            BadInput: If nothing seals them and ``allow_unsafe`` is not set; says what to do.
        """
        if self._owner != os.getpid():
            self._begin()
        with self._lock:
            if self._plan is None:
                self._plan = self._choose()
            return self._plan.tier

    def run(self, program: str, tests: UnitTests | Mapping[str, Any] | str) -> Verdict:
        """Run a program against its tests.

        Args:
            program: Python source.
            tests: Of either kind, also as code-r1's JSON.

        Raises:
            ValueError: If the tests are unusable.
            BadInput: If there is no safe way to run programs.
        """
        tests = parse_tests(tests)
        _ = self.tier
        return self._run(program, tests, time.monotonic())

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        """Run each (program, tests) and return a verdict each, in order.

        An interruption ends the programs that run.

        Raises:
            ValueError: If the tests of one are unusable.
            BadInput: If there is no safe way to run programs.
        """
        if not jobs:
            return []
        jobs, _ = [(program, parse_tests(tests)) for program, tests in jobs], self.tier
        with ThreadPoolExecutor(len(self._pairs)) as threads:
            futures = [threads.submit(self._run, program, tests, time.monotonic()) for program, tests in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self.cancel()
                raise

    def metrics(self) -> dict[str, float]:
        """How fast it worked since this was last asked, by name; empty if it did not."""
        return self.throughput.metrics()

    def cancel(self) -> None:
        """From any thread: end the programs that run; their verdict is ``REFUSED``."""
        if self._owner != os.getpid():
            return
        self._stopping.set()
        held: list[Pair] = []
        while len(held) < len(self._pairs):  # until all have come back
            for pair in self._pairs:
                pair.hang_up()
            with contextlib.suppress(queue.Empty):
                held.append(self._idle.get(timeout=0.05))
        self._stopping.clear()
        for pair in held:
            pair.stop()
            self._idle.put(pair)

    def close(self) -> None:
        """End all boxes. Safe to call twice."""
        if self.throughput.programs:
            log.info("Sandbox: %s", self.throughput)
        self.cancel()

    def _run(self, program: str, tests: UnitTests, since: float) -> Verdict:
        if lacking := lacking_packages(tests, self._packages):
            return Verdict(RunOutcome.REFUSED, 0, 1, f"no package {', '.join(lacking)} in the sandbox")
        pair = self._idle.get()
        try:
            with self.throughput.working(since) as verdicts:
                verdicts.append(self._attempt(pair, program, tests))
        finally:
            self._idle.put(pair)
        return verdicts[0]

    def _attempt(self, pair: Pair, program: str, tests: UnitTests) -> Verdict:
        """A box that is lost is replaced, and the program tried once more."""
        reason = "cancelled"
        for _ in range(2):
            if self._stopping.is_set():
                break
            try:
                return pair.test(program, tests, lambda: self._start(pair))
            except BoxLost as error:
                reason = str(error)
                pair.stop()
        reason = "cancelled" if self._stopping.is_set() else reason
        return Verdict(RunOutcome.REFUSED, 0, len(tests.outputs) or 1, f"the sandbox was lost: {reason}")

    def _start(self, pair: Pair) -> Box:
        assert self._plan is not None
        return self._open(self._plan, self._pairs.index(pair))

    def _open(self, plan: Plan, worker: int) -> Box:
        cpu = self._cpus[(os.getpid() + worker) % len(self._cpus)]
        return Box(plan.launch(self._limits, self._packages, cpu, next(self._numbers)))

    def _choose(self) -> Plan:
        """The first plan under which a program cannot get out."""
        reasons: list[str] = []
        for plan in plans(self._tier):
            reason = missing(plan) or self._try(plan)
            if not reason:
                if plan.tier is Tier.LANDLOCK and self._tier == "auto":
                    log.warning("Programs are sealed by Landlock, the second choice: %s", "; ".join(reasons))
                return plan
            reasons.append(f"{plan.tier.value}: {reason}")
        explained = "; ".join(reasons)
        if not self._allow_unsafe:
            raise BadInput(f"no way to seal programs in works here ({explained}). {_CURE}")
        log.critical("UNSAFE: programs written by the model run with this user's rights (%s)", explained)
        return Plan(Tier.UNSAFE)

    def _try(self, plan: Plan) -> str:
        try:
            box = self._open(plan, 0)
        except (BoxLost, OSError) as error:
            return f"it does not start ({error})"
        try:
            return ", ".join(f"a program {found}" for found in leaks(box))
        except BoxLost as error:
            return f"its self-test failed ({error})"
        finally:
            box.stop()


def _stop_all(pairs: list[Pair], owner: int) -> None:
    """At the end of the process, but not of a process forked from it."""
    if os.getpid() == owner:
        for pair in pairs:
            pair.stop()
