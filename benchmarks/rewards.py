"""Verifications and sandboxed programs per second, and what a second worker adds.

python -m benchmarks.rewards
python -m benchmarks.rewards --workers 8 --items 4000

Every answer is verified symbolically (no plain numbers, no pair twice), every program is run on tests of its own.
``efficiency`` is the rate with all workers over that of one worker times their number: 1 is perfect, and what can be
reached depends on how many processors are free. Numbers of workers take turns, so that a busy machine slows all.
"""

from __future__ import annotations

import json
import os
import statistics
import time

from jsonargparse import auto_cli

from benchmarks.sandbox import SCRIPT, scripts
from omnithink_pl.rewards.math import MathReward
from omnithink_pl.sandbox import HardenedSandbox
from omnithink_pl.types import Completion, Example, Group, State


class Verifier:
    """The math reward on answers that need it.

    Args:
        workers: Processes that verify.
    """

    def __init__(self, workers: int) -> None:
        self.reward = MathReward(workers, timeout=60.0)
        self.done = 0

    def run(self, items: int) -> None:
        """Verify fractions, every other of which is wrong."""
        numbers = range(self.done, self.done + items)
        self.done += items
        golds = [rf"\frac{{{number + 1}}}{{7}}+\sqrt{{2}}" for number in numbers]
        answers = [rf"\sqrt{{2}}+\frac{{{2 * (number + 1) + number % 2}}}{{14}}" for number in numbers]
        groups = [group(gold, answer) for gold, answer in zip(golds, answers, strict=True)]
        found = [outcome for row in self.reward.score(groups) for outcome in row]
        if any(outcome.state is not State.VALUE for outcome in found):
            raise RuntimeError(f"not every answer could be verified: {found}")

    def close(self) -> None:
        """End the processes."""
        self.reward.close()


class Runner:
    """The sandbox on short programs.

    Args:
        workers: Programs that run at the same time.
    """

    def __init__(self, workers: int) -> None:
        self.sandbox = HardenedSandbox(workers=workers)

    def run(self, items: int) -> None:
        """Run programs on two tests each."""
        if not all(verdict.passed for verdict in self.sandbox.run_all([(SCRIPT, scripts(2))] * items)):
            raise RuntimeError("a right program failed")

    def close(self) -> None:
        """End the boxes."""
        self.sandbox.close()


def group(gold: str, answer: str) -> Group:
    """A group of one completion."""
    text = f"<think>so</think><answer>\\boxed{{{answer}}}</answer>"
    return Group(Example("math", gold, "?", gold), (), (Completion((), (), text, "stop"),))


def benchmark(items: int = 200, workers: int | None = None, turns: int = 3) -> None:
    """Print a table, and rates and efficiencies as one line of JSON.

    Args:
        items: Answers and programs of each turn.
        workers: Most workers; the number of processors, but at least 2, if not given.
        turns: How often each is measured; the median counts.
    """
    most = workers or max(2, os.cpu_count() or 2)
    found = {"verifications": rates(Verifier, most, items, turns), "programs": rates(Runner, most, items, turns)}
    print(f"{os.cpu_count()} processors, {items} items a turn")
    print(f"| what | per second, 1 worker | per second, {most} workers | efficiency |")
    print("| --- | --- | --- | --- |")
    efficiency = {what: many / one / most for what, (one, many) in found.items()}
    for what, (one, many) in found.items():
        print(f"| {what} | {one:.0f} | {many:.0f} | {efficiency[what]:.2f} |")
    numbers = {f"efficiency_{what}": round(value, 3) for what, value in efficiency.items()}
    print(json.dumps(numbers | {f"{what}_per_second": round(many, 1) for what, (_, many) in found.items()}))


def rates(side: type[Verifier] | type[Runner], most: int, items: int, turns: int) -> tuple[float, float]:
    """Items per second with one worker and with ``most``."""
    sides = side(1), side(most)
    seconds: tuple[list[float], list[float]] = [], []
    for one in sides:
        one.run(4 * most)  # starts the workers
    for _ in range(turns):
        for one, times in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            one.run(items)
            times.append(time.perf_counter() - began)
    for one in sides:
        one.close()
    few, many = (items / statistics.median(times) for times in seconds)
    return few, many


if __name__ == "__main__":
    auto_cli(benchmark)
