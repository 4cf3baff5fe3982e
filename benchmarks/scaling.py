"""How a training step grows with the group, the length of completions, the batch and the number of processes.

python -m benchmarks.scaling
python -m benchmarks.scaling --policy Qwen/Qwen2.5-0.5B-Instruct --median 200 --max_tokens 1024

Each row changes one thing of the first. Lengths are log-normal, as in ``benchmarks.step``. All rows take turns step by
step; only those of several processes cannot, and follow. ``ratio_<row>`` says how many times as many trained tokens a
second the row reaches as the first: above 1, larger is cheaper by the token. ``ratio_ranks`` compares several processes
with one on the row ``batch``, and ``efficiency_ranks`` is that by their number.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from jsonargparse import auto_cli

from benchmarks import ours
from benchmarks.harness import Lap, print_json, print_table, quiet, run_ranks, take_turns
from benchmarks.lengths import PlannedLengths, log_normal
from benchmarks.ours import Shape
from omnithink_pl.model.policy import Policy


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    shape: Shape
    median: float  # of the log-normal lengths
    sigma: float  # of their logarithm

    def lengths(self) -> list[list[int]]:
        """Return the lengths of each step, prompt by prompt."""
        rows = self.shape.prompts * self.shape.group
        return list(islice(log_normal(rows, self.median, self.sigma, self.shape.max_tokens, 0), self.shape.steps))


def train(row: Row, ranks: int, rank: int, lap: Lap) -> None:
    """Train on the lengths of a row, as one of several processes; each has every ``ranks``-th prompt."""
    group = row.shape.group
    plans = [[length for i, length in enumerate(batch) if i // group % ranks == rank] for batch in row.lengths()]

    def prepare(policy: Policy) -> None:
        PlannedLengths(policy.model, policy.eos_id, iter(plans))

    ours.train(row.shape, lap, prepare=prepare, ranks=ranks)


def benchmark(
    policy: str = "embedded",
    prompts: int = 4,
    group: int = 4,
    median: float = 20.0,
    sigma: float = 0.6,
    max_tokens: int = 96,
    factor: int = 4,
    turns: int = 3,
    threads: int = 1,
    processes: int = 2,
) -> None:
    """Print a table, and the ratios as one line of JSON.

    Args:
        policy: ``embedded``, a directory, or a hub id.
        prompts: Prompts per step of the first row.
        group: Completions per prompt of the first row.
        median: Of the log-normal lengths of the first row, in tokens.
        sigma: Of the logarithm of the lengths.
        max_tokens: Longest completion of the first row.
        factor: How many times as large one thing is in each further row.
        turns: Steps of each row that count.
        threads: CPU threads of torch, in each process.
        processes: How many share a batch in the last row.
    """
    quiet(threads)
    with ours.saved_for(policy, factor * max_tokens) as directory:
        base = Shape(directory, prompts, group, max_tokens, steps=turns + 1)
        rows = {
            "base": Row(base, median, sigma),
            "group": Row(replace(base, group=factor * group), median, sigma),
            "batch": Row(replace(base, prompts=factor * prompts), median, sigma),
            "length": Row(replace(base, max_tokens=factor * max_tokens), factor * median, sigma),
        }
        sides = {name: partial(train, row, 1, 0) for name, row in rows.items()}
        runs = take_turns(sides, partial(quiet, threads))
        laps = {name: [cost.seconds for cost in run.costs[1:]] for name, run in runs.items()}
        for name, count in {"1 process": 1, f"{processes} processes": processes}.items():
            rows[name] = rows["batch"]
            laps[name] = run_ranks(partial(train, rows[name], count), count, partial(quiet, threads))
    rates = show(rows, laps)
    one, several = (rates[name] for name in list(rows)[-2:])
    ratios = {f"ratio_{name}": rates[name] / rates["base"] for name in sides if name != "base"}
    ratios |= {"ratio_ranks": several / one, "efficiency_ranks": several / one / processes}
    print_json(ratios)


def show(rows: Mapping[str, Row], laps: Mapping[str, list[float]]) -> dict[str, float]:
    """Print a line for each row, and return its tokens a second; ``laps`` are seconds of its steps but the first."""
    rates, lines = {}, []
    for name, row in rows.items():
        tokens = [sum(batch) for batch in row.lengths()[1:]]
        rates[name] = statistics.median(n / s for n, s in zip(tokens, laps[name], strict=True))
        shape = f"{row.shape.prompts} | {row.shape.group} | {row.median:.0f} | {statistics.mean(tokens):.0f}"
        lines.append(f"{name} | {shape} | {statistics.median(laps[name]):.2f} | {rates[name]:.0f}")
    print_table("row | prompts | group | median length | tokens a step | seconds a step | tokens per second", lines)
    return rates


if __name__ == "__main__":
    auto_cli(benchmark)
