"""Programs and their tests in one process, unsealed, for benchmarks whose tests need that: only inside a container."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import final

from omnithink_pl.errors import BadInput
from omnithink_pl.sandbox.base import RunOutcome, Verdict, lacking_packages
from omnithink_pl.types import UnitTests

# Limits, then the program and its tests as the module that tests patch by name, as BigCodeBench's harness has it.
_RUN = """
import os, resource, sys, types
memory = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="Agg", TF_CPP_MIN_LOG_LEVEL="3")
module = types.ModuleType("__test__")
module.__file__ = "__test__.py"
sys.modules["__test__"] = module
exec(compile(sys.stdin.buffer.read(), "__test__.py", "exec"), module.__dict__)
os._exit(83)
"""
_PASSED = 83  # not 0, with which a program that ends itself would pass


@final
class OneProcess:
    """Runs a program together with its functional tests, with whatever is installed here; it is not sealed.

    For BigCodeBench, whose tests patch modules, open files and compare data frames, and so must share the
    program's interpreter, as in its own harness. A program could pass by tampering with its tests, and has
    this user's rights: evaluate with it inside a container that may be lost, with the benchmark's libraries; never
    train with it. Sample elsewhere, and score there with ``validate --completions``.

    Args:
        inside_container: Whether this is such a container; otherwise nothing is run.
        workers: Programs run at the same time.
        timeout: Seconds for each; BigCodeBench's harness has 240.
        memory_mb: Address space of a run; BigCodeBench's harness has 30 GiB.
    """

    def __init__(
        self, inside_container: bool = False, workers: int = 1, timeout: float = 240.0, memory_mb: int = 30 * 1024
    ) -> None:
        if not inside_container:
            raise BadInput(
                "OneProcess runs programs with this user's rights; run it in a container that may be lost, and say so "
                "with inside_container: true"
            )
        self.workers, self.timeout, self.memory_mb = workers, timeout, memory_mb

    def run_all(self, jobs: Sequence[tuple[str, UnitTests]]) -> list[Verdict]:
        """Run each (program, tests) and return a verdict each, in order."""
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(lambda job: self._run(*job), jobs))

    def close(self) -> None:
        """Do nothing: no process outlives :meth:`run_all`."""

    def _run(self, program: str, tests: UnitTests) -> Verdict:
        installed = [name for name in tests.packages if _is_installed(name)]
        if lacking := lacking_packages(tests, installed):
            return Verdict(RunOutcome.REFUSED, 0, 1, f"no package {', '.join(lacking)} in this container")
        if not tests.functional:
            return Verdict(RunOutcome.REFUSED, 0, 1, "OneProcess runs functional tests only")
        began, error = time.monotonic(), b""
        with tempfile.TemporaryDirectory() as directory:
            process = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(self.memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={"PATH": os.environ.get("PATH", ""), "HOME": directory, "LANG": "C.UTF-8"},  # no keys
                start_new_session=True,
            )
            try:
                _, error = process.communicate(f"{program}\n{tests.functional}".encode(), self.timeout)
                outcome = RunOutcome.PASSED if process.returncode == _PASSED else RunOutcome.EXCEPTION
            except subprocess.TimeoutExpired:
                outcome = RunOutcome.TIMEOUT
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it has started
                process.communicate()
        stderr = error.decode(errors="replace")[-1000:]
        return Verdict(outcome, int(outcome is RunOutcome.PASSED), 1, stderr, time.monotonic() - began)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
