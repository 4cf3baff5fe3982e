"""Cost of the sandbox, and leaks: ``python -m benchmarks.sandbox --programs 10000``.

Costs are wall-clock milliseconds with all workers busy, beside those of as many bare interpreters at a time. The last
line holds all figures as one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from jsonargparse import auto_cli

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests

SCRIPT = "a, b = map(int, input().split())\nprint(a + b)"
FUNCTION = "def f(x):\n    return x + 1"
WRONG = "def f(x):\n    return x"
TESTS = 8
ROUNDS = 7


def scripts(tests: int) -> UnitTests:
    """Return tests of ``SCRIPT`` by input and output."""
    return UnitTests(inputs=("1 2\n",) * tests, outputs=("3",) * tests)


def asserts(tests: int) -> UnitTests:
    """Return tests of ``FUNCTION`` by asserts."""
    body = "".join(f"    assert candidate({i}) == {i + 1}\n" for i in range(tests))
    return UnitTests(functional=f"def check(candidate):\n{body}check(f)\n")


def bare(runs: int, workers: int) -> float:
    """Return wall-clock milliseconds of a bare interpreter that runs the script, as many at a time as workers."""
    command = [sys.executable, "-I", "-S", "-c", SCRIPT]

    def run(_: int) -> None:
        subprocess.run(command, input=b"1 2\n", capture_output=True, check=True)

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(run, range(runs)))
    return (time.perf_counter() - start) / runs * 1000


def timed(sandbox: HardenedSandbox, program: str, tests: UnitTests, programs: int) -> float:
    """Return milliseconds of wall-clock time for a program, all workers busy."""
    start = time.perf_counter()
    verdicts = sandbox.run_all([(program, tests)] * programs)
    assert all(verdict.passed for verdict in verdicts)
    return (time.perf_counter() - start) / programs * 1000


def held() -> dict[str, float]:
    """Return what this process and its boxes hold: open files, processes, temporary files, megabytes."""
    own = psutil.Process()
    boxes = own.children(recursive=True)
    return {
        "files": own.num_fds(),
        "processes": len(boxes),
        "temporary": len(list(Path(tempfile.gettempdir()).iterdir())),
        "own_mb": own.memory_info().rss / 2**20,
        "boxes_mb": sum(box.memory_info().rss for box in boxes) / 2**20,
    }


def costs(sandbox: HardenedSandbox, workers: int) -> dict[str, float]:
    """Return milliseconds of a program with one test beyond a bare interpreter, and of each further test.

    Medians over rounds in which all are measured in turn, because a machine's speed changes meanwhile.
    """
    kinds = {"stdin": (SCRIPT, scripts), "functional": (FUNCTION, asserts)}
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        alone = bare(20, workers)
        found = {"bare_ms": alone}
        for kind, (program, tests) in kinds.items():
            one, many = timed(sandbox, program, tests(1), 40), timed(sandbox, program, tests(TESTS), 20)
            found |= {
                f"{kind}_program_ms": one,
                f"{kind}_program_over_bare_ms": one - alone,
                f"{kind}_test_ms": (many - one) / (TESTS - 1),
            }
        rounds.append(found)
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def benchmark(tier: str = "auto", workers: int = 2, programs: int = 200) -> None:
    """Print the costs, then run many programs in a row and print what has changed.

    Args:
        tier: Of the sandbox.
        workers: Programs that run at the same time.
        programs: In a row; rounded up to hundreds.
    """
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # other processes' files are not counted
        try:
            print(json.dumps(measure(HardenedSandbox(workers=workers, tier=tier), workers, programs)))
        finally:
            tempfile.tempdir = None


def measure(sandbox: HardenedSandbox, workers: int, programs: int) -> dict[str, object]:
    """Return all figures, printed as they come, and close the sandbox."""
    jobs = [(SCRIPT, scripts(1)), (FUNCTION, asserts(1)), (WRONG, asserts(1)), ("raise ValueError", scripts(1))] * 25
    sandbox.run_all(jobs)
    figures: dict[str, object] = {"tier": sandbox.tier.value, "workers": workers}
    measured = costs(sandbox, workers)
    print("\n".join(f"{value:8.1f} {name}" for name, value in measured.items()))
    sandbox.metrics()
    rounds = -(-programs // len(jobs))
    before = held()
    for _ in range(rounds):
        sandbox.run_all(jobs)
    after, speed = held(), sandbox.metrics()
    print(f"{rounds * len(jobs)} programs: " + ", ".join(f"{value:.2f} {name}" for name, value in speed.items()))
    print(", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in before))
    sandbox.close()
    own = psutil.Process()
    remaining = len(own.children(recursive=True))
    print(f"after close: {remaining} processes, {own.num_fds()} open files")
    figures |= {**measured, "programs": rounds * len(jobs), **speed, "processes_after_close": remaining}
    figures |= {f"{name}_grown": round(after[name] - before[name], 3) for name in before}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}


if __name__ == "__main__":
    auto_cli(benchmark)
