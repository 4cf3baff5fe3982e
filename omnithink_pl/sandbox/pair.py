"""One program against its tests, in a pair of boxes: the program's, and the judge's."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from omnithink_pl.sandbox.base import RunOutcome, Verdict
from omnithink_pl.sandbox.box import Box
from omnithink_pl.sandbox.streams import Streams
from omnithink_pl.sandbox.unit_tests import same_output

if TYPE_CHECKING:
    from omnithink_pl.types import UnitTests

Report = dict[str, Any]
_WALL = 3  # a program may wait for three times as long as it may compute
_SLACK = 15.0  # seconds beyond a run's own limit before its box is taken for dead
_LOST = '{"outcome": "lost", "error": "", "message": ""}'  # of a judge that could not finish
_GRACE = 1.0  # seconds to end after the test has


@final
class Pair:
    """Two boxes that start when they are first needed.

    Args:
        timeout: Processor seconds of a program over all its tests.
        output_bytes: What a run may print; more where more is expected.
    """

    def __init__(self, timeout: float, output_bytes: int) -> None:
        self._timeout, self._output_bytes = timeout, output_bytes
        self._program: Box | None = None
        self._judge: Box | None = None

    def test(self, program: str, tests: UnitTests, start: Callable[[], Box]) -> Verdict:
        """Run a program against its tests.

        Args:
            program: Python source.
            tests: Of either kind.
            start: Starts a box.

        Raises:
            BoxLost: If a box ends meanwhile, or does not start.
        """
        self._program = self._program or start()
        if not tests.functional:
            return self._scripts(self._program, program, tests)
        self._judge = self._judge or start()
        return self._functional(self._program, self._judge, program, tests)

    def stop(self) -> None:
        """End both boxes. Safe to call twice."""
        for box in (self._program, self._judge):
            if box is not None:
                box.stop()
        self._program = self._judge = None

    def hang_up(self) -> None:
        """From another thread: end what runs."""
        for box in (self._program, self._judge):
            if box is not None:
                box.hang_up()

    def _scripts(self, box: Box, program: str, tests: UnitTests) -> Verdict:
        """One run per input; what it should print stays here. Ends at the first failing test."""
        total, seconds, cpu, stderr = len(tests.outputs), 0.0, 0.0, "there are no tests"
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
                elif outcome is RunOutcome.PASSED and not same_output(streams.stdout, expected):
                    outcome = RunOutcome.WRONG_ANSWER
            if outcome is not RunOutcome.PASSED:
                return Verdict(outcome, passed, total, stderr, seconds)
        outcome = RunOutcome.PASSED if total else RunOutcome.WRONG_ANSWER
        return Verdict(outcome, total, total, stderr, seconds)

    def _functional(self, box: Box, judge: Box, program: str, tests: UnitTests) -> Verdict:
        """The test's code in one box, the program in the other, a channel between them."""
        job = self._job("calls")
        test = self._job("judge") | {"entry_point": tests.entry_point}
        mine, theirs = socket.socketpair()
        with Streams(program, channel=mine) as streams, Streams(tests.functional, channel=theirs) as judging:
            with mine, theirs:
                box.submit(job, streams.files)
                judge.submit(test, judging.files)
            judged = _reply(judge, test, judging)
            if not box.has_reply(_GRACE):  # its test is over, so it had a moment to end by itself
                box.cancel()
            report, stderr = _reply(box, job, streams), streams.stderr
            finding = json.loads(judging.report or _LOST)
        outcome = _judged(judged, finding, report, stderr)
        passed = int(outcome is RunOutcome.PASSED)
        seconds = max(judged["seconds"], report["seconds"])
        return Verdict(outcome, passed, 1, stderr or finding["message"], seconds)

    def _job(self, kind: str, cpu: float = 0.0, seconds: float = 0.0, output_bytes: int = 0) -> Report:
        """A run, and what is left of its limits."""
        return {
            "kind": kind,
            "cpu_seconds": max(1, math.ceil(self._timeout - cpu)),
            "wall_seconds": max(0.0, _WALL * self._timeout - seconds),
            "output_bytes": max(self._output_bytes, output_bytes),
        }


def _reply(box: Box, job: Report, streams: Streams) -> Report:
    report = box.reply(job["wall_seconds"] + _SLACK)
    if report["status"] != "timeout" and streams.printed >= job["output_bytes"]:
        report["status"] = "output limit"
    return report


def _ending(report: Report, stderr: str) -> RunOutcome:
    """How a run ended, before anyone looks at what it printed."""
    if not report["locked"]:
        return RunOutcome.REFUSED
    error = stderr.strip().rpartition("\n")[2]
    match report["status"]:
        case "exit 0":
            return RunOutcome.PASSED
        case "timeout":
            return RunOutcome.TIMEOUT
        case "output limit":
            return RunOutcome.OUTPUT_LIMIT
        case "signal 9":  # it cannot have done that itself: the kernel ran out of memory
            return RunOutcome.MEMORY
    return RunOutcome.MEMORY if error.startswith("MemoryError") else RunOutcome.EXCEPTION


def _judged(judged: Report, finding: Report, report: Report, stderr: str) -> RunOutcome:
    """Passed only if the tests ran to their end, and the program ended as it was then told to."""
    if not (judged["locked"] and report["locked"]):
        return RunOutcome.REFUSED
    ending = _ending(report, stderr)
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
