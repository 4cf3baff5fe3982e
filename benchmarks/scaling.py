"""How a training step grows with the group, the length of completions, the batch and the number of processes.

python -m benchmarks.scaling
python -m benchmarks.scaling --policy Qwen/Qwen2.5-0.5B-Instruct --median 200 --max_tokens 1024

Each row changes one thing of the first. Lengths are log-normal, as in ``benchmarks.step``. All rows take turns step by
step; only those of several processes cannot, and follow. ``ratio_<row>`` says how many times as many trained tokens a
second the row reaches as the first: above 1, larger is cheaper by the token. ``ratio_ranks`` compares several processes
with one on the row ``batch``, and ``efficiency_ranks`` is that by their number.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks import ours
from benchmarks.harness import Lap, print_table, quiet, run_ranks, take_turns
from benchmarks.lengths import PlannedLengths, log_normal
from benchmarks.ours import Shape
from omnithink_pl.model.policy import Policy


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        shape: Of its steps.
        median: Of its lengths.
        sigma: Of their logarithm.
    """

    shape: Shape
    median: float
    sigma: float

    def lengths(self) -> list[list[int]]:
        """Return the lengths of each step, prompt by prompt."""
        plans = log_normal(self.shape.rows, self.median, self.sigma, self.shape.max_tokens, 0)
        return list(islice(plans, self.shape.steps))

    def tokens(self) -> list[int]:
        """Return the completion tokens of each step but the first."""
        return [sum(batch) for batch in self.lengths()[1:]]


def train(row: Row, ranks: int, rank: int, lap: Lap) -> None:
    """Train on the lengths of a row, as one of several processes; each has every ``ranks``-th prompt."""
    size = row.shape.group
    plans = []
    for batch in row.lengths():
        groups = [batch[start : start + size] for start in range(0, len(batch), size)]
        plans.append([length for group in groups[rank::ranks] for length in group])

    def prepare(policy: Policy) -> None:
        PlannedLengths(policy.model, policy.eos_id, iter(plans))

    ours.train(row.shape, prepare, lap, ranks=ranks)


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
    with tempfile.TemporaryDirectory() as folder:
        saved = ours.save_with_context(policy, 2 * factor * max_tokens + 1024, Path(folder))
        steps = turns + 1
        rows = {
            "base": Row(Shape(saved, prompts, group, max_tokens, steps), median, sigma),
            "group": Row(Shape(saved, prompts, factor * group, max_tokens, steps), median, sigma),
            "batch": Row(Shape(saved, factor * prompts, group, max_tokens, steps), median, sigma),
            "length": Row(Shape(saved, prompts, group, factor * max_tokens, steps), factor * median, sigma),
        }
        sides = {name: partial(train, row, 1, 0) for name, row in rows.items()}
        runs = take_turns(sides, partial(quiet, threads))
        laps = {name: [cost.seconds for cost in run.costs[1:]] for name, run in runs.items()}
        batch = rows["batch"]
        for name, count in {"1 process": 1, f"{processes} processes": processes}.items():
            laps[name] = run_ranks(partial(train, batch, count), count, partial(quiet, threads))
            rows[name] = batch
    rates = show(rows, laps)
    one, several = (rates[name] for name in list(rows)[-2:])
    ratios = {f"ratio_{name}": rates[name] / rates["base"] for name in sides if name != "base"}
    ratios |= {"ratio_ranks": several / one, "efficiency_ranks": several / one / processes}
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


def show(rows: Mapping[str, Row], laps: Mapping[str, list[float]]) -> dict[str, float]:
    """Print a line for each row.

    Args:
        rows: By name.
        laps: Seconds of each step but the first.

    Returns:
        Tokens a second of each row.
    """
    rates, lines = {}, []
    for name, row in rows.items():
        rates[name] = statistics.median(n / s for n, s in zip(row.tokens(), laps[name], strict=True))
        tokens, seconds = statistics.mean(row.tokens()), statistics.median(laps[name])
        shape = f"{row.shape.prompts} | {row.shape.group} | {row.median:.0f} | {tokens:.0f}"
        lines.append(f"{name} | {shape} | {seconds:.2f} | {rates[name]:.0f}")
    header = "row | prompts | group | median length | tokens a step | seconds a step | tokens per second"
    print_table(header, lines)
    return rates


if __name__ == "__main__":
    auto_cli(benchmark)
