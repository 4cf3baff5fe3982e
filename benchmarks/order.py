"""Saving by starting the longest completions first, where an engine cannot decode all at once.

python -m benchmarks.order
python -m benchmarks.order --rows 64 --sigma 1.0

A count, not a measurement: completions of log-normal lengths wait for a row that is free, and the last one's end is the
number of tokens decoded one after the other. Half of the variance of the logarithm is the prompt's, the rest the
completion's own. The orders: as they come; by the mean of their task; by the mean of their prompt; by their lengths,
which nobody knows.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jsonargparse import auto_cli

from benchmarks.harness import print_json, print_table


class Waiting(NamedTuple):
    """A completion to be sampled, in tokens: the means of its task and of its prompt, and its own length."""

    task: float
    prompt: float
    length: int


ORDERS: dict[str, Callable[[Waiting], float]] = {
    "as_they_come": lambda one: 0.0,
    "by_task": lambda one: -one.task,
    "by_prompt": lambda one: -one.prompt,
    "by_length": lambda one: -one.length,
}


def benchmark(
    rows: int = 256,
    group: int = 8,
    means: tuple[float, ...] = (600.0, 300.0, 150.0, 500.0),
    sigma: float = 0.8,
    max_tokens: int = 4096,
    draws: int = 30,
) -> None:
    """Print a table, and the ratios as one line of JSON.

    Args:
        rows: Completions that are decoded at the same time.
        group: Completions per prompt.
        means: Median length of each task, in tokens.
        sigma: Of the logarithm of the lengths.
        max_tokens: Longest completion.
        draws: Batches that are averaged over.
    """
    ratios, lines = {}, []
    for times in (1, 2, 4, 16):
        batches = [batch(times * rows, group, means, sigma, max_tokens, random.Random(draw)) for draw in range(draws)]
        ends = {
            name: statistics.mean(last_end(sorted(b, key=key), rows) for b in batches) for name, key in ORDERS.items()
        }
        found = {name: end / ends["as_they_come"] for name, end in ends.items()}
        lines.append(" | ".join([str(times), *(f"{ratio:.2f}" for ratio in found.values())]))
        ratios |= {f"ratio_{name}_{times}": ratio for name, ratio in found.items() if ratio != 1.0}
    print_table(" | ".join(["completions / rows", *ORDERS]), lines)
    print_json(ratios)


def batch(
    count: int, group: int, means: Sequence[float], sigma: float, longest: int, rng: random.Random
) -> list[Waiting]:
    """Sample completions of prompts whose tasks come in random order."""
    half, waiting = sigma / 2**0.5, []
    for _ in range(count // group):
        task = rng.choice(means)
        prompt = task * rng.lognormvariate(0.0, half)
        drawn = [round(prompt * rng.lognormvariate(0.0, half)) for _ in range(group)]
        waiting += [Waiting(task, prompt, min(max(length, 1), longest)) for length in drawn]
    return waiting


def last_end(waiting: Sequence[Waiting], rows: int) -> int:
    """Return the tokens decoded one after the other until all have ended, each starting as soon as a row is free."""
    free = [0] * rows
    for one in waiting:
        heapq.heappush(free, heapq.heappop(free) + one.length)
    return max(free)


if __name__ == "__main__":
    auto_cli(benchmark)
