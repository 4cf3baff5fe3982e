"""What the sandbox costs, and whether it leaves anything behind: ``python benchmarks/sandbox.py --programs 10000``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import UnitTests

SCRIPT = "a, b = map(int, input().split())\nprint(a + b)"
FUNCTION = "def f(x):\n    return x + 1"
WRONG = "def f(x):\n    return x"
TESTS = 8


def scripts(tests: int) -> UnitTests:
    """Tests by input and output."""
    return UnitTests(inputs=("1 2\n",) * tests, outputs=("3",) * tests)


def asserts(tests: int) -> UnitTests:
    """Tests by asserts."""
    body = "".join(f"    assert candidate({i}) == {i + 1}\n" for i in range(tests))
    return UnitTests(functional=f"def check(candidate):\n{body}check(f)\n")


def bare(runs: int) -> float:
    """Milliseconds for a bare interpreter that runs the script."""
    start = time.perf_counter()
    for _ in range(runs):
        subprocess.run([sys.executable, "-I", "-S", "-c", SCRIPT], input=b"1 2\n", capture_output=True, check=True)
    return (time.perf_counter() - start) / runs * 1000


def timed(sandbox: HardenedSandbox, program: str, tests: UnitTests, programs: int) -> float:
    """Milliseconds of wall-clock time for a program, all workers busy."""
    start = time.perf_counter()
    verdicts = sandbox.run_all([(program, tests)] * programs)
    assert all(verdict.passed for verdict in verdicts)
    return (time.perf_counter() - start) / programs * 1000


def left(pids: list[int]) -> dict[str, float]:
    """What this process and its boxes hold on to: open files, processes, temporary files, megabytes."""
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    held = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids]
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "processes": len(list(Path("/proc").glob("[0-9]*"))),
        "temporary": len(list(Path(tempfile.gettempdir()).iterdir())),
        "own_mb": int(Path("/proc/self/statm").read_text().split()[1]) * page,
        "boxes_mb": sum(held),
    }


def descendants() -> list[int]:
    """This process's children, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def main() -> None:
    """Print the costs, then run many programs in a row and print what changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--programs", type=int, default=200)
    arguments = parser.parse_args()
    sandbox = HardenedSandbox(workers=arguments.workers, tier=arguments.tier)
    jobs = [(SCRIPT, scripts(1)), (FUNCTION, asserts(1)), (WRONG, asserts(1)), ("raise ValueError", scripts(1))]
    sandbox.run_all(jobs * 50)
    print(f"tier {sandbox.tier.value}, {arguments.workers} workers; a bare interpreter takes {bare(40):.1f} ms")
    for kind, program, tests in (("stdin", SCRIPT, scripts), ("functional", FUNCTION, asserts)):
        one, many = timed(sandbox, program, tests(1), 200), timed(sandbox, program, tests(TESTS), 100)
        per_test = (many - one) / (TESTS - 1)
        print(
            f"{kind}: {one:.1f} ms a program with one test, {many:.1f} with {TESTS}: {per_test:.1f} ms a further test"
        )
    before, start = left(descendants()), time.perf_counter()
    for _ in range(arguments.programs // len(jobs) // 50):
        sandbox.run_all(jobs * 50)
    seconds, after = time.perf_counter() - start, left(descendants())
    print(f"{arguments.programs} programs in {seconds:.0f} s, {arguments.programs / seconds:.0f} a second")
    print(", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in before))
    sandbox.close()
    print(f"after close: {len(descendants())} processes, {len(list(Path('/proc/self/fd').iterdir()))} open files")


if __name__ == "__main__":
    main()
