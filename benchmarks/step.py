"""A whole training step beside TRL's GRPOTrainer, and beside the least that a step can cost.

pip install -e '.[bench]'
python -m benchmarks.step
python -m benchmarks.step --policy Qwen/Qwen2.5-0.5B-Instruct --max_tokens 1024 --median 200

Both train the same policy on the same prompts with the same group size and the same lengths, which are drawn from a
log-normal distribution and forced on both samplers. They take turns step by step, so that a busy machine slows both,
and each ratio is the median over such pairs. ``ratio_trl`` says how many times as many trained tokens a second we
reach; ``ratio_trl_fixed`` the same with all lengths equal to the mean; ``ratio_floor`` how our step compares with our
sampler's generate and our packed forward and backward pass, and nothing else. ``_cpu`` is the same in processor
seconds, which other processes on the machine change less.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli

from benchmarks import ours, peer
from benchmarks.lengths import PlannedLengths, fixed, log_normal
from benchmarks.ours import Shape
from benchmarks.quiet import quiet
from benchmarks.turns import Cost, Lap, Turns
from omnithink_pl.modules.forward import token_logprobs
from omnithink_pl.modules.microbatch import split
from omnithink_pl.policy import Policy, load_policy, ready_to_train
from omnithink_pl.rollout import Sampling, TransformersEngine

Plans = Callable[[], Iterator[list[int]]]


def benchmark(
    policy: str = "embedded",
    prompts: int = 8,
    group: int = 8,
    median: float = 40.0,
    sigma: float = 0.6,
    max_tokens: int = 256,
    turns: int = 7,
    threads: int = 1,
) -> None:
    """Print a table of all sides, and the ratios as one line of JSON.

    Args:
        policy: ``embedded``, a directory, or a hub id.
        prompts: Prompts per step.
        group: Completions per prompt.
        median: Of the log-normal lengths, in tokens.
        sigma: Of the logarithm of the lengths.
        max_tokens: Longest completion.
        turns: Steps of each side that count.
        threads: CPU threads of torch.
    """
    if importlib.util.find_spec("trl") is None:
        sys.exit("benchmarks.step compares with TRL: pip install -e '.[bench]'")
    quiet()
    torch.set_num_threads(threads)
    rows = prompts * group
    spread: Plans = partial(log_normal, rows, median, sigma, max_tokens, 0)
    lengths = [length for batch in islice(spread(), turns + 1) for length in batch]
    mean = round(statistics.mean(lengths))
    with tempfile.TemporaryDirectory() as folder:
        saved = ours.save_with_context(policy, 2 * max_tokens + 1024, Path(folder))
        shape = Shape(saved, prompts, group, max_tokens, turns + 1)
        realistic = compare(shape, spread)
        equal = compare(shape, partial(fixed, rows, mean))
    deciles = statistics.quantiles(lengths, n=10)
    print(
        f"{rows} completions a step; lengths: 10 % {deciles[0]:.0f}, median {statistics.median(lengths):.0f}, ", end=""
    )
    print(f"mean {mean}, 90 % {deciles[-1]:.0f}, longest {max(lengths)}; {threads} thread(s)")
    report({"log-normal": realistic, "fixed": equal}, tokens=mean * rows)
    pairs = {
        "ratio_trl": (realistic["TRL"], realistic["ours"]),
        "ratio_trl_fixed": (equal["TRL"], equal["ours"]),
        "ratio_floor": (realistic["ours"], realistic["floor"]),
        "ratio_floor_fixed": (equal["ours"], equal["floor"]),
    }
    ratios = {name: ratio(*pair, "seconds") for name, pair in pairs.items()}
    ratios |= {f"{name}_cpu": ratio(*pair, "cpu") for name, pair in pairs.items()}
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


def compare(shape: Shape, plans: Plans) -> dict[str, list[Cost]]:
    """The cost of each step of each side; the first, which warms up, is left out."""

    def prepare(policy: Policy) -> None:
        PlannedLengths(policy.model, policy.eos_id, plans())

    sides = {
        "ours": partial(ours.train, shape, prepare),
        "TRL": partial(peer.train, shape, prepare),
        "floor": partial(floor, shape, prepare),
    }
    return {name: laps[1:] for name, laps in Turns(list(sides)).run(sides).items()}


def floor(shape: Shape, prepare: Callable[[Policy], None], lap: Lap) -> None:
    """Generate, then forward and backward: no rewards, no loss, no optimiser, no loop around them."""
    policy = load_policy(shape.policy)
    model = ready_to_train(policy.model)
    if torch.cuda.is_available():
        model.cuda()
    prepare(policy)
    engine = TransformersEngine()
    engine.attach(policy)
    prompts = [policy.encode(example.messages) for example in shape.examples()]
    for step in range(shape.steps):
        seeds = range(step * len(prompts), (step + 1) * len(prompts))
        drawn = engine.generate(prompts, Sampling(shape.group, max_tokens=shape.max_tokens), seeds)
        completions = [[c.token_ids for c in group] for group in drawn]
        lengths = [(len(p), [len(c) for c in group]) for p, group in zip(prompts, completions, strict=True)]
        for parts in split(lengths, 8192):
            chosen = [[completions[part.group][i] for i in part.completions] for part in parts]
            token_logprobs(model, [prompts[part.group] for part in parts], chosen).logprobs.sum().backward()
        model.zero_grad()
        lap()


def ratio(slow: list[Cost], fast: list[Cost], measure: Literal["seconds", "cpu"]) -> float:
    """Median over the pairs of laps that ran one after the other."""
    return statistics.median(getattr(a, measure) / getattr(b, measure) for a, b in zip(slow, fast, strict=True))


def report(costs: dict[str, dict[str, list[Cost]]], tokens: int) -> None:
    """Print the table of docs/performance.md."""
    print("| lengths | side | seconds per step (median) | CPU seconds per step (median) | tokens per CPU second |")
    print("| --- | --- | --- | --- | --- |")
    for kind, sides in costs.items():
        for name, laps in sides.items():
            seconds, cpu = (statistics.median(column) for column in zip(*laps, strict=True))
            print(f"| {kind} | {name} | {seconds:.2f} | {cpu:.2f} | {tokens / cpu:.0f} |")


if __name__ == "__main__":
    auto_cli(benchmark)
