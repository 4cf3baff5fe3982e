"""Verifications and sandboxed programs per second with one worker and with several.

python -m benchmarks.rewards
python -m benchmarks.rewards --workers 8 --items 4000

Every answer is verified symbolically (no plain numbers, no pair twice), every program is run on tests of its own.
``efficiency`` is the rate with all workers over that of one worker times their number: 1 is perfect, and what can be
reached depends on how many processors are free. Numbers of workers take turns, so that a busy machine slows all.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count, islice

from jsonargparse import auto_cli

from benchmarks.harness import print_json, print_table
from benchmarks.sandbox import SCRIPT, scripts
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import Completion, Example, Group, State

Side = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def verifier(workers: int) -> Iterator[Callable[[int], None]]:
    """Start the math reward; what is yielded verifies fractions, every other of which is wrong."""
    reward, numbers = MathReward(workers, timeout=60.0), count()

    def run(items: int) -> None:
        groups = []
        for number in islice(numbers, items):
            gold = rf"\frac{{{number + 1}}}{{7}}+\sqrt{{2}}"
            answer = rf"\sqrt{{2}}+\frac{{{2 * (number + 1) + number % 2}}}{{14}}"
            completion = Completion((), (), f"<think>so</think><answer>\\boxed{{{answer}}}</answer>", "stop")
            groups.append(Group(Example("math", gold, "?", gold), (), (completion,)))
        outcomes = [outcome for row in reward.score(groups) for outcome in row]
        if any(outcome.state is not State.VALUE for outcome in outcomes):
            raise RuntimeError(f"not every answer could be verified: {outcomes}")

    yield run
    reward.close()


@contextmanager
def runner(workers: int) -> Iterator[Callable[[int], None]]:
    """Start the sandbox; what is yielded runs programs on two tests each."""
    sandbox = HardenedSandbox(workers=workers)

    def run(items: int) -> None:
        if not all(verdict.passed for verdict in sandbox.run_all([(SCRIPT, scripts(2))] * items)):
            raise RuntimeError("a right program failed")

    yield run
    sandbox.close()


def benchmark(items: int = 200, workers: int | None = None, turns: int = 3) -> None:
    """Print a table, and rates and efficiencies as one line of JSON.

    Args:
        items: Answers and programs of each turn.
        workers: Most workers; the number of processors, but at least 2, if not given.
        turns: How often each is measured; the median counts.
    """
    most = workers or max(2, os.cpu_count() or 2)
    found = {"verifications": rates(verifier, most, items, turns), "programs": rates(runner, most, items, turns)}
    print(f"{os.cpu_count()} processors, {items} items a turn")
    efficiency = {what: many / one / most for what, (one, many) in found.items()}
    rows = [f"{what} | {one:.0f} | {many:.0f} | {efficiency[what]:.2f}" for what, (one, many) in found.items()]
    print_table(f"what | per second, 1 worker | per second, {most} workers | efficiency", rows)
    figures = {f"efficiency_{what}": value for what, value in efficiency.items()}
    print_json(figures | {f"{what}_per_second": many for what, (_, many) in found.items()})


def rates(side: Side, most: int, items: int, turns: int) -> tuple[float, float]:
    """Return items per second with one worker and with ``most``."""
    seconds: dict[int, list[float]] = {1: [], most: []}
    with side(1) as one, side(most) as many:
        for run in (one, many):
            run(4 * most)  # starts the workers
        for _ in range(turns):
            for workers, run in ((1, one), (most, many)):
                began = time.perf_counter()
                run(items)
                seconds[workers].append(time.perf_counter() - began)
    return items / statistics.median(seconds[1]), items / statistics.median(seconds[most])


if __name__ == "__main__":
    auto_cli(benchmark)
