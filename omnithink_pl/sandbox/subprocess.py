"""A sandbox of plain processes with resource limits."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, final

from omnithink_pl.sandbox.base import RunOutcome, Verdict
from omnithink_pl.sandbox.pool import Lost, WorkerPool

if TYPE_CHECKING:
    from omnithink_pl.types import UnitTests

_SLACK = 15.0  # seconds beyond a program's own limit before its server is taken for dead


@final
class SubprocessSandbox:
    """Runs programs in processes with limits on time, memory, output, files and processes.

    Each worker is a bare Python that forks a child per run: own session, fresh empty directory,
    no environment of ours, no open files of ours; when it ends, or its time does, all it started is
    killed. As root, the child becomes a user of its own. Runs are repeatable: string hashes and
    ``random`` start from a fixed seed. The standard library is there, other packages are not.

    For tests of inputs and outputs, what a program should print never enters its process; the
    comparison happens here. A functional test shares its interpreter with the program, and passes
    when a random token is printed behind it: leaving early does not pass.

    What this does *not* cover: programs meant to do harm. They may read the host's files and
    open network connections, as the user who trains could (as root: as a user without rights,
    except that reading stays allowed where Python itself lies in root's home). A program may search
    its own interpreter for the token of a functional test, or bend what the test compares.
    Without root, it may signal processes of the same user. Files it writes are limited in size, not
    in number.

    Args:
        workers: Programs run at the same time.
        timeout: Wall-clock seconds for a program over all its tests.
        memory_mb: Address space of a run.
        output_kb: What a run may write to standard output, or to any one file.
    """

    def __init__(self, workers: int = 2, timeout: float = 2.0, memory_mb: int = 512, output_kb: int = 1024) -> None:
        for name, value in (("timeout", timeout), ("memory_mb", memory_mb), ("output_kb", output_kb)):
            if value <= 0:
                raise ValueError(f"{name}: {value} is too small; use more than 0")
        self.timeout = timeout
        limits = {"seconds": timeout, "memory_mb": memory_mb, "output_bytes": output_kb << 10}
        server = str(files("omnithink_pl.sandbox") / "forkserver.py")
        # -P: beside the server lies a subprocess.py that hides Python's own. -I would free the hash seed.
        self._pool = WorkerPool(
            [sys.executable, "-S", "-P", "-B", "-X", "utf8", server, json.dumps(limits)],
            workers,
            {"PYTHONHASHSEED": "0", "TMPDIR": tempfile.gettempdir()},
        )

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        """Run each (program, tests) and return a verdict each, in order.

        Raises:
            ValueError: If a problem has not one output per input.
            RuntimeError: If a worker does not start.
        """
        tokens = [secrets.token_hex(16) for _ in jobs]
        requests = [_request(*job, token) for job, token in zip(jobs, tokens, strict=True)]
        replies = self._pool.map(requests, self.timeout + _SLACK)
        return [_verdict(tests, reply, token) for (_, tests), reply, token in zip(jobs, replies, tokens, strict=True)]

    def close(self) -> None:
        """End all processes. Safe to call twice."""
        self._pool.close()


def _request(program: str, tests: UnitTests, token: str) -> dict[str, Any]:
    if tests.functional:
        return {"program": program, "tests": tests.functional, "token": token}
    if len(tests.inputs) != len(tests.outputs):
        raise ValueError(
            f"a problem has {len(tests.inputs)} inputs and {len(tests.outputs)} outputs; give each its own"
        )
    return {"program": program, "inputs": tests.inputs}


def _verdict(tests: UnitTests, runs: list[dict[str, Any]] | Lost, token: str) -> Verdict:
    expected = (token,) if tests.functional else tests.outputs
    if isinstance(runs, Lost):
        return Verdict(RunOutcome.REFUSED, total_tests=len(expected), stderr=runs.value)
    seconds = sum(run["seconds"] for run in runs)
    for passed, (run, output) in enumerate(zip(runs, expected, strict=False)):
        outcome = _outcome(run, output, functional=bool(tests.functional))
        if outcome is not RunOutcome.PASSED:
            return Verdict(outcome, passed, len(expected), run["stderr"], seconds)
    if not expected:
        return Verdict(RunOutcome.WRONG_ANSWER, stderr="there are no tests")
    return Verdict(RunOutcome.PASSED, len(expected), len(expected), runs[-1]["stderr"], seconds)


def _outcome(run: dict[str, Any], expected: str, functional: bool) -> RunOutcome:
    """How one run ended; only an exit code of 0 *and* the right output pass."""
    stdout, error = run["stdout"], run["stderr"].strip().rpartition("\n")[2]
    match run["status"]:
        case "exit 0":
            right = stdout.endswith(expected) if functional else stdout.strip() == expected.strip()
            return RunOutcome.PASSED if right else RunOutcome.WRONG_ANSWER
        case "timeout":
            return RunOutcome.TIMEOUT
        case "output limit":
            return RunOutcome.OUTPUT_LIMIT
    if error.startswith("MemoryError"):
        return RunOutcome.MEMORY
    if functional and error.startswith("AssertionError"):
        return RunOutcome.WRONG_ANSWER
    return RunOutcome.EXCEPTION
