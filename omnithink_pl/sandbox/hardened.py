"""The sandbox: runs programs against their tests, in pairs of boxes. docs/security.md says what it does not cover."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import queue
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any, Literal, final

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox.base import RunOutcome, Verdict, lacking_packages, parse_tests, same_output
from omnithink_pl.sandbox.box import Box, BoxLost, Streams
from omnithink_pl.sandbox.inside.confine import Limits
from omnithink_pl.sandbox.tiers import Plan, Tier, find_leaks, missing, plans
from omnithink_pl.sandbox.workers import stop_all
from omnithink_pl.types import UnitTests

log = logging.getLogger(__name__)
_CURE = (
    "No program is run. Cure: as root, apt-get install bubblewrap libseccomp2; in a container, permit user namespaces "
    "or use a kernel with Landlock. Only where the whole machine may be lost: allow_unsafe: true."
)
_WALL = 3  # a program may last three times as long as it may compute
_SLACK = 15.0  # seconds beyond a run's own limit before its box is taken for dead
_GRACE = 1.0  # seconds that a program has to end after its test has
_LOST = {"outcome": "lost", "error": "", "message": ""}  # report of a test that could not finish
_OUTCOMES = {
    "exit 0": RunOutcome.PASSED,
    "timeout": RunOutcome.TIMEOUT,
    "output limit": RunOutcome.OUTPUT_LIMIT,
    "signal 9": RunOutcome.MEMORY,  # a program cannot have sent it itself: the kernel ran out of memory
}


@final
class HardenedSandbox:
    """Runs programs that may be malicious, and finds out whether they pass their tests.

    Each worker has two boxes, one for programs and one for the test code that judges them, each sealed by bubblewrap
    or, where that is impossible, by Landlock; both with a filter of system calls and limits on time, memory, output,
    files and threads. The seal is chosen when the first program comes: a self-test attempts to get out, and where it
    can, no program is run. May be used from several threads.

    Args:
        workers: Programs run at the same time; ``null`` for one per processor allotted to this process.
        timeout: Processor seconds of a program over all its tests; it may last three times as long.
        memory_mb: Address space of a run.
        output_kb: Output of a run at most; more where more is expected.
        tier: How to seal; ``auto`` takes the first that works, bubblewrap before Landlock.
        allow_unsafe: Whether to run programs with no more than limits where nothing seals them.
        packages: Packages that programs may import where they are installed here, with all that these need. NumPy and
            pandas (``[sortedcontainers, numpy, pandas]``) cost a box some seconds to start, and memory.
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
        self._cpus = sorted(os.sched_getaffinity(0))
        self._size = len(self._cpus) if workers is None else workers
        numbers = {"workers": self._size, "timeout": timeout, "memory_mb": memory_mb, "output_kb": output_kb}
        for name, value in numbers.items():
            if value <= 0:
                raise BadInput(f"{name}: {value} is too small; use more than 0")
        if tier not in {"auto", "bubblewrap", "landlock"}:
            raise BadInput(f"tier: {tier!r} is none of auto, bubblewrap, landlock")
        self._tier, self._allow_unsafe, self._packages = tier, allow_unsafe, tuple(packages)
        self._limits = Limits(memory_mb)
        self._numbers = itertools.count(os.getpid())
        self._plan: Plan | None = None
        self._new_pair = partial(_Pair, timeout, output_kb << 10)
        self._reset()

    def _reset(self) -> None:
        """Set up what belongs to one process: called again in a fork of it."""
        self._owner = os.getpid()
        self.throughput = Throughput()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pairs = [self._new_pair() for _ in range(self._size)]
        self._idle: queue.LifoQueue[_Pair] = queue.LifoQueue()
        for pair in self._pairs:
            self._idle.put(pair)
        weakref.finalize(self, stop_all, self._pairs, self._owner)

    @property
    def tier(self) -> Tier:
        """How boxes are sealed; chosen at the first call, which raises ``BadInput`` if there is no safe way."""
        if self._owner != os.getpid():
            self._reset()
        with self._lock:
            if self._plan is None:
                self._plan = self._choose()
            return self._plan.tier

    def run(self, program: str, tests: UnitTests | Mapping[str, Any] | str) -> Verdict:
        """Run a program against its tests (see :func:`run`)."""
        tests, _ = parse_tests(tests), self.tier
        return self._run(program, tests, time.monotonic())

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        """Run each (program, tests) and return a verdict each, in order. An interruption ends the programs that run."""
        if not jobs:
            return []
        jobs, _ = [(program, parse_tests(tests)) for program, tests in jobs], self.tier
        since = time.monotonic()
        with ThreadPoolExecutor(self._size) as threads:
            try:
                return list(threads.map(lambda job: self._run(job[0], job[1], since), jobs))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.cancel()
                raise

    def metrics(self) -> dict[str, float]:
        """Return throughput since the last call (see :class:`Throughput`)."""
        return self.throughput.metrics()

    def cancel(self) -> None:
        """End, from any thread, the programs that run; their verdict is ``REFUSED``."""
        if self._owner != os.getpid():
            return
        self._stopping.set()
        held: list[_Pair] = []
        while len(held) < len(self._pairs):  # until all have been returned
            for pair in self._pairs:
                pair.disconnect()
            with suppress(queue.Empty):
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
                return verdicts[0]
        except BaseException:  # interrupted: a late report must not answer for the next program
            pair.stop()
            raise
        finally:
            self._idle.put(pair)

    def _attempt(self, pair: _Pair, program: str, tests: UnitTests) -> Verdict:
        """Run a program; once more, in new boxes, if a box was lost."""
        reason = ""
        for _ in range(2):
            if self._stopping.is_set():
                break
            try:
                return pair.test(program, tests, lambda: self._start(self._plan, self._pairs.index(pair)))
            except BoxLost as error:
                reason = str(error)
                pair.stop()
        reason = "cancelled" if self._stopping.is_set() else reason
        return Verdict(RunOutcome.REFUSED, 0, len(tests.outputs) or 1, f"the sandbox was lost: {reason}")

    def _start(self, plan: Plan | None, worker: int) -> Box:
        assert plan is not None  # ``tier`` has chosen it
        cpu = self._cpus[(os.getpid() + worker) % len(self._cpus)]
        return plan.start(self._limits, self._packages, cpu, next(self._numbers))

    def _choose(self) -> Plan:
        """Return the first plan whose boxes hold."""
        reasons: list[str] = []
        for plan in plans(self._tier):
            if not (reason := missing(plan) or self._try(plan)):
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
        """Return why a plan does not work; empty if it does."""
        try:
            box = self._start(plan, 0)
        except (BoxLost, OSError) as error:
            return f"it does not start ({error})"
        try:
            return ", ".join(f"a program {leak}" for leak in find_leaks(plan, box))
        except BoxLost as error:
            return f"its self-test failed ({error})"
        finally:
            box.stop()


def run(program: str, tests: UnitTests | Mapping[str, Any] | str) -> Verdict:
    """Run a program against its tests, with the default limits, sealed as well as this machine allows.

    Args:
        program: Python source.
        tests: ``{"functional": asserts}`` or ``{"inputs": [...], "outputs": [...]}``, as code-r1 has them, or the JSON.

    Raises:
        ValueError: If the tests are unusable.
        BadInput: If there is no safe way to run programs here; says what to do.

    Example:
        >>> run("print(int(input()) + 1)", {"inputs": ["1"], "outputs": ["2"]}).passed
        True
    """
    return default_sandbox().run(program, tests)


default_sandbox = cache(HardenedSandbox)  # made once: a warm one takes a tenth of a new one's time


Report = dict[str, Any]


@final
class _Pair:
    """A worker's two boxes, which start when they are first needed; the limits are the sandbox's."""

    def __init__(self, timeout: float, output_bytes: int) -> None:
        self._timeout, self._output_bytes = timeout, output_bytes
        self._program: Box | None = None
        self._judge: Box | None = None

    def test(self, program: str, tests: UnitTests, start: Callable[[], Box]) -> Verdict:
        """Run a program against its tests; ``BoxLost`` if a box ends meanwhile, or does not start."""
        self._program = self._program or start()
        if not tests.functional:
            return self._scripts(self._program, program, tests)
        self._judge = self._judge or start()
        return self._functional(self._program, self._judge, program, tests)

    def stop(self) -> None:
        """End both boxes. Safe to call twice."""
        for box in filter(None, (self._program, self._judge)):
            box.stop()
        self._program = self._judge = None

    def disconnect(self) -> None:
        """End, from another thread, what runs."""
        for box in filter(None, (self._program, self._judge)):
            box.disconnect()

    def _scripts(self, box: Box, program: str, tests: UnitTests) -> Verdict:
        """Run once per input, up to the first failing test; expected outputs are compared here, outside the box."""
        total, seconds, cpu, stderr = len(tests.outputs), 0.0, 0.0, "there are no tests"
        outputs: list[str] = []  # kept where the comparison is left to others
        for passed, (stdin, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True)):
            job = self._job("script", cpu, seconds, 2 * len(expected.encode(errors="replace")))
            with Streams(program, stdin) as streams:
                box.submit(job, streams.files)
                report = _reply(box, job, streams)
                stderr = streams.stderr
                seconds, cpu = seconds + report["seconds"], cpu + report["cpu"]
                outcome = _ending(report, stderr)
                if outcome is RunOutcome.PASSED and cpu > self._timeout:
                    outcome = RunOutcome.TIMEOUT
                elif not tests.compare:
                    outputs.append(streams.stdout)
                elif outcome is RunOutcome.PASSED and not same_output(streams.stdout, expected):
                    outcome = RunOutcome.WRONG_ANSWER
            if outcome is not RunOutcome.PASSED:
                return Verdict(outcome, passed, total, stderr, seconds)
        outcome = RunOutcome.PASSED if total else RunOutcome.WRONG_ANSWER
        return Verdict(outcome, total, total, stderr, seconds, tuple(outputs))

    def _functional(self, box: Box, judge: Box, program: str, tests: UnitTests) -> Verdict:
        """Run the test in one box and the program in the other, with a channel between them."""
        job = self._job("calls")
        test = self._job("test") | {"entry_point": tests.entry_point}
        mine, theirs = socket.socketpair()
        with Streams(program, channel=mine) as streams, Streams(tests.functional, channel=theirs) as judging:
            with mine, theirs:
                box.submit(job, streams.files)
                judge.submit(test, judging.files)
            judged = _reply(judge, test, judging)
            if not box.has_reply(_GRACE):  # its test is over, so it had a moment to end by itself
                box.submit({"cancel": True})  # its report still follows
            report, stderr = _reply(box, job, streams), streams.stderr
            finding = _finding(judging.report)
        outcome = _judged(judged, finding, report, stderr)
        passed = int(outcome is RunOutcome.PASSED)
        seconds = max(judged["seconds"], report["seconds"])
        told = finding["message"] if outcome is RunOutcome.UNDEFINED else stderr or finding["message"]
        return Verdict(outcome, passed, 1, told, seconds)

    def _job(self, kind: str, cpu: float = 0.0, seconds: float = 0.0, output_bytes: int = 0) -> Report:
        """Return a run with its limits, less the processor time and the time used already."""
        return {
            "kind": kind,
            "cpu_seconds": max(1, math.ceil(self._timeout - cpu)),
            "wall_seconds": max(0.0, _WALL * self._timeout - seconds),
            "output_bytes": max(self._output_bytes, output_bytes),
        }


def _reply(box: Box, job: Report, streams: Streams) -> Report:
    report = box.reply(job["wall_seconds"] + _SLACK)
    if report["status"] != "timeout" and streams.output_bytes >= job["output_bytes"]:
        report["status"] = "output limit"
    return report


def _finding(text: str) -> Report:
    """Return what a test reported: nothing, if it could not finish, or if it wrote there itself."""
    try:
        finding = json.loads(text)
    except ValueError:
        return _LOST
    return {key: str(finding.get(key, "")) for key in _LOST} if isinstance(finding, dict) else _LOST


def _ending(report: Report, stderr: str) -> RunOutcome:
    """Return how a run ended, whatever it printed."""
    if not report["locked"]:
        return RunOutcome.REFUSED
    is_memory = stderr.strip().rpartition("\n")[2].startswith("MemoryError")
    return _OUTCOMES.get(report["status"], RunOutcome.MEMORY if is_memory else RunOutcome.EXCEPTION)


def _judged(judged: Report, finding: Report, report: Report, stderr: str) -> RunOutcome:
    """Return the outcome from the report on the test's run, the test's own finding and the program's report.

    It is passed only if the test ran to its end, and the program then ended when told to.
    """
    if not (judged["locked"] and report["locked"]):
        return RunOutcome.REFUSED
    ending = _ending(report, stderr)
    if finding["outcome"] == "undefined":
        return RunOutcome.UNDEFINED
    if finding["outcome"] == "passed":
        return RunOutcome.EXCEPTION if report["status"] == "cancelled" else ending
    if ending in {RunOutcome.TIMEOUT, RunOutcome.OUTPUT_LIMIT, RunOutcome.MEMORY}:
        return ending
    if judged["status"] != "exit 0":
        return RunOutcome.TIMEOUT if judged["status"] == "timeout" else RunOutcome.EXCEPTION
    match finding["error"]:
        case "AssertionError":
            return RunOutcome.WRONG_ANSWER
        case "MemoryError":
            return RunOutcome.MEMORY
    return RunOutcome.EXCEPTION


class Throughput:
    """Counts the work of a sandbox, in all and since the metrics were last read. May be used from several threads."""

    def __init__(self) -> None:
        self.programs = 0
        self.seconds = 0.0  # summed over workers
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._running = 0
        self._marked = 0.0
        self._start_window()

    def _start_window(self) -> None:
        self._programs = self._tests = 0
        self._open = 0.0  # seconds with at least one busy worker
        self._busy = 0.0  # seconds summed over workers
        self._waited = 0.0  # seconds summed over programs

    @contextmanager
    def working(self, since: float) -> Iterator[list[Verdict]]:
        """Count a worker as busy, and the verdict that is appended to the list; ``since`` the program has waited."""
        began = time.monotonic()
        with self._lock:
            self._mark(began)
            self._running += 1
        verdicts: list[Verdict] = []
        try:
            yield verdicts
        finally:
            ended = time.monotonic()
            with self._lock:
                self._mark(ended)
                self._running -= 1
                self._busy += ended - began
                for verdict in verdicts:
                    self.programs += 1
                    self.seconds += ended - began
                    self.outcomes[verdict.outcome.value] += 1
                    self._programs += 1
                    self._waited += began - since
                    # The first failing test is the last to run.
                    self._tests += min(verdict.total_tests, verdict.passed_tests + 1)

    def metrics(self) -> dict[str, float]:
        """Return metrics since the last call, over the time in which anything ran; empty if no program was judged."""
        metrics: dict[str, float] = {}
        with self._lock:
            self._mark(time.monotonic())
            if self._programs and self._open:
                metrics = {
                    "programs_per_second": self._programs / self._open,
                    "tests_per_second": self._tests / self._open,
                    "busy_workers": self._busy / self._open,
                    "wait_seconds": self._waited / self._programs,
                }
            self._start_window()
        return metrics

    def _mark(self, now: float) -> None:
        """Count the time since the last mark, if anything ran in it."""
        self._open += now - self._marked if self._running else 0.0
        self._marked = now

    def __str__(self) -> str:
        each = self.seconds / max(1, self.programs) * 1000
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return f"{self.programs} programs in {self.seconds:.1f} s of all workers, {each:.0f} ms each: {outcomes}"
