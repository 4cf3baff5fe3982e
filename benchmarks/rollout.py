"""Tokens per second of the rollout engines on the same prompts, and what a weight sync costs.

python -m benchmarks.rollout
python -m benchmarks.rollout --policy Qwen/Qwen2.5-0.5B-Instruct --prompts 64 --max_tokens 512

Prompts are of the packaged math and question answering, completions end where the policy ends them, so that lengths
spread as in training. The engines take turns, so that a busy machine slows both; the first turn warms up and is not
counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from jsonargparse import auto_cli

from benchmarks.harness import print_table
from omnithink_pl.embedded import EmbeddedMath, EmbeddedQA
from omnithink_pl.model.policy import Policy, load_policy
from omnithink_pl.rollout import ColocatedVLLM, RolloutEngine, Sampling, TransformersEngine
from omnithink_pl.tasks import QA, Math

T = TypeVar("T")


def benchmark(
    policy: str = "embedded",
    prompts: int = 16,
    samples: int = 8,
    max_tokens: int = 56,
    turns: int = 5,
    threads: int = 1,
    dtype: str = "float32",
) -> None:
    """Print a table of both engines.

    Args:
        policy: ``embedded``, a directory, or a hub id.
        prompts: Prompts per batch.
        samples: Completions per prompt.
        max_tokens: Longest completion.
        turns: Batches of each engine that count.
        threads: CPU threads of torch.
        dtype: Of trainer and engine.
    """
    torch.set_num_threads(threads)
    loaded = load_policy(policy, getattr(torch, dtype))
    if torch.cuda.is_available():
        loaded.model.cuda()
    batch, sampling = questions(loaded, prompts), Sampling(samples, max_tokens=max_tokens)
    engines: dict[str, RolloutEngine] = {
        "transformers": TransformersEngine(),
        "vLLM": ColocatedVLLM(dtype=dtype, kv_cache_gib=1.0, sleep=False),  # type: ignore[arg-type]
    }
    measured: dict[str, tuple[list[float], list[float], list[int]]] = {name: ([], [], []) for name in engines}
    for name, engine in engines.items():
        _, attaching = timed(partial(engine.attach, loaded))
        print(f"{name}: ready after {attaching:.1f} s")
    for turn in range(turns + 1):
        seeds = range(turn * prompts, (turn + 1) * prompts)
        for name, engine in engines.items():
            loaded.weights_changed()  # or there is nothing to load
            _, syncing = timed(engine.sync)
            groups, sampling_time = timed(partial(engine.generate, batch, sampling, seeds))
            if turn > 0:
                seconds, syncs, lengths = measured[name]
                seconds.append(sampling_time)
                syncs.append(syncing)
                lengths += [len(completion.token_ids) for group in groups for completion in group]
    report(measured)


def questions(policy: Policy, count: int) -> list[list[int]]:
    """Return prompts of two tasks in turn, as token ids."""
    examples = [task.examples("test", 0) for task in (Math(EmbeddedMath()), QA(EmbeddedQA()))]
    return [policy.encode(examples[place % 2][place // 2].messages) for place in range(count)]


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return a call's result and its seconds."""
    began = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - began


def report(measured: dict[str, tuple[list[float], list[float], list[int]]]) -> None:
    """Print the table of docs/rollout.md."""
    rows = []
    for name, (seconds, syncs, lengths) in measured.items():
        deciles = statistics.quantiles(lengths, n=10)
        spread = f"{deciles[0]:.0f}, {statistics.median(lengths):.0f}, {deciles[-1]:.0f}"
        rate, sync = sum(lengths) / sum(seconds), 1000 * statistics.median(syncs)
        rows.append(f"{name} | {rate:.0f} | {statistics.median(seconds):.2f} | {sync:.1f} | {spread}")
    columns = ("tokens per second", "seconds per batch (median)", "sync, ms (median)")
    print_table(" | ".join(("engine", *columns, "lengths: 10 %, median, 90 %")), rows)


if __name__ == "__main__":
    auto_cli(benchmark)
