r"""A whole training step beside TRL's GRPOTrainer, and beside the least that a step can cost.

pip install -e '.[bench]'
python -m benchmarks.step
python -m benchmarks.step --engine vllm
python -m benchmarks.step --policy HuggingFaceTB/SmolLM2-135M-Instruct --data gsm8k_train.jsonl --prompts 4 \
    --max_tokens 160 --turns 1 --threads 2 --micro_batch 8

Both train the same policy on the same prompts with the same group size and the same log-normal lengths, which are
forced on both samplers. All sides take turns step by step, and each ratio is the median over such rounds; ``_cpu`` is
the same in processor seconds, ``_fixed`` with all lengths equal to the mean. A first round with short completions warms
up and does not count.

``ratio_trl``: how many times as many trained tokens a second we reach. ``ratio_floor``: how long our step takes against
our sampler's generate and our packed forward and backward pass. ``ratio_matmul``: against our sampler's generate and
the matrix products of that pass: the linear layers' are measured in the same rounds, attention's are charged at the
same rate. docs/performance.md says what lies between them.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, repeat

from jsonargparse import auto_cli

from benchmarks import floor, ours, peer
from benchmarks.harness import Cost, print_json, print_table, quiet, take_turns
from benchmarks.lengths import SHORTEST, Kind, Plans, log_normal
from benchmarks.ours import Shape

Costs = dict[str, list[Cost]]


def benchmark(
    policy: str = "embedded",
    engine: Kind = "transformers",
    prompts: int = 8,
    group: int = 8,
    median: float = 40.0,
    sigma: float = 0.6,
    max_tokens: int = 256,
    turns: int = 7,
    threads: int = 1,
    data: str | None = None,
    worked: int = 1,
    micro_batch: int | None = None,
) -> None:
    """Print a table of all sides, and the ratios as one line of JSON.

    Args:
        policy: ``embedded``, a directory, or a hub id.
        engine: What samples on all sides, TRL's included.
        prompts: Prompts per step.
        group: Completions per prompt.
        median: Of the log-normal lengths, in tokens.
        sigma: Of the logarithm of the lengths.
        max_tokens: Longest completion.
        turns: Steps of each side that count.
        threads: CPU threads of torch.
        data: JSON Lines file whose questions are the prompts, in the form of GSM8K; the packaged miniature's if not
            given.
        worked: Worked examples before each question, from the file's first rows.
        micro_batch: Completions that TRL trains on at a time, a divisor of those of a step; all if not given.
    """
    if importlib.util.find_spec("trl") is None:
        sys.exit("benchmarks.step compares with TRL: pip install -e '.[bench]'")
    quiet(threads)
    rows = prompts * group
    spread: Plans = partial(log_normal, rows, median, sigma, max_tokens, 0)
    lengths = [length for batch in islice(spread(), turns) for length in batch]
    mean = round(statistics.mean(lengths))
    with ours.saved_for(policy, max_tokens) as directory:
        shape = Shape(directory, prompts, group, max_tokens, turns + 1, data, worked)
        sides = partial(compare, shape, engine, threads=threads, micro_batch=micro_batch or rows)
        realistic = sides(spread)
        equal = sides(partial(repeat, [mean] * rows))
    deciles = statistics.quantiles(lengths, n=10)
    print(
        f"{rows} completions a step; lengths: 10 % {deciles[0]:.0f}, median {statistics.median(lengths):.0f}, "
        f"mean {mean}, 90 % {deciles[-1]:.0f}, longest {max(lengths)}; {engine}, {threads} thread(s)"
    )
    report({"log-normal": realistic, "fixed": equal}, tokens=mean * rows)
    print_json(ratios(realistic) | ratios(equal, "_fixed"))


def compare(shape: Shape, engine: Kind, spread: Plans, threads: int, micro_batch: int) -> Costs:
    """Return the cost of each step of each side but the first, which warms up."""
    plans: Plans = partial(warmed_up, spread, shape.prompts * shape.group)
    batches = list(islice(plans(), 1, shape.steps))
    sides = {
        "ours": partial(floor.step, shape, engine, plans),
        "TRL": partial(peer.train, shape, engine, plans, micro_batch),
        "floor": partial(floor.floor, shape, engine, plans, True),
        "generate": partial(floor.floor, shape, engine, plans, False),
        "products": partial(floor.products, shape, batches[0]),
    }
    costs = {name: run.costs[1:] for name, run in take_turns(sides, partial(quiet, threads)).items()}
    shares = floor.share_of_batch(shape, batches)
    costs["products"] = [
        Cost(share * seconds, share * cpu) for share, (seconds, cpu) in zip(shares, costs["products"], strict=True)
    ]
    return costs


def warmed_up(plans: Plans, rows: int) -> Iterator[list[int]]:
    """Yield the lengths of a short batch, then those of the plans."""
    return chain([[SHORTEST] * rows], plans())


def ratios(costs: Costs, kind: str = "") -> dict[str, float]:
    """Return the ratios of one kind of lengths, in wall-clock and in processor seconds."""
    least = [
        Cost(*map(sum, zip(*parts, strict=True))) for parts in zip(costs["generate"], costs["products"], strict=True)
    ]
    pairs = {
        "trl": (costs["TRL"], costs["ours"]),
        "floor": (costs["ours"], costs["floor"]),
        "matmul": (costs["ours"], least),
    }
    return {
        f"ratio_{name}{kind}{suffix}": statistics.median(a[i] / b[i] for a, b in zip(*pair, strict=True))
        for i, suffix in enumerate(("", "_cpu"))  # the two numbers of a cost
        for name, pair in pairs.items()
    }


def report(costs: dict[str, Costs], tokens: int) -> None:
    """Print the table of docs/performance.md."""
    rows = []
    for kind, sides in costs.items():
        for name, laps in sides.items():
            seconds, cpu = (statistics.median(column) for column in zip(*laps, strict=True))
            rows.append(f"{kind} | {name} | {seconds:.3f} | {cpu:.3f} | {tokens / cpu:.0f}")
    columns = ("seconds per step (median)", "CPU seconds per step (median)", "tokens per CPU second")
    print_table(" | ".join(("lengths", "side", *columns)), rows)


if __name__ == "__main__":
    auto_cli(benchmark)
