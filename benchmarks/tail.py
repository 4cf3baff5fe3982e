"""What a step saves by not waiting for its longest completions.

python -m benchmarks.tail
python -m benchmarks.tail --policy Qwen/Qwen2.5-0.5B-Instruct --median 200 --max_tokens 2048 --segment 512

One stage is trained twice, step by step in turn: with every completion sampled to its end, and with at most so many
tokens of each in a step (``model.rollouts.segment_tokens``). Lengths are log-normal and a function of the prompt's
seed, so that both train on completions of the same lengths, each group once, some of them later.

A *depth* is the number of tokens that a step samples one after the other: what it takes where decoding one token takes
as long for few rows as for many. ``ratio_depth`` says how many times less deep the steps are;
``ratio_seconds`` and ``ratio_cpu`` how many times faster the stage was trained here.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from functools import partial

from jsonargparse import auto_cli

from benchmarks import ours
from benchmarks.harness import Lap, print_json, print_table, quiet, take_turns
from benchmarks.lengths import SHORTEST, PlannedLengths
from benchmarks.ours import Shape
from omnithink_pl.grpo.collection import RolloutSettings
from omnithink_pl.model.policy import Policy
from omnithink_pl.rollout import Sampling, TransformersEngine
from omnithink_pl.rollout.base import DecodingRequest, Finished, RequestBatch
from omnithink_pl.types import Completion


class PlannedEngine:
    """The engine over transformers, with lengths that are a function of the seed, however often they are cut."""

    def __init__(self, median: float, sigma: float, segment: int) -> None:
        self.median, self.sigma, self.segment = median, sigma, segment
        self.depths, self.tokens = list[int](), list[int]()  # of each call
        self._engine = TransformersEngine(batch_rows=1 << 20)  # new prompts are one batch, partial ones another
        self._plans: list[list[int]] = []

    def attach(self, policy: Policy) -> None:
        """Set the policy, and force the lengths on it."""
        self._policy = policy
        self._engine.attach(policy)
        PlannedLengths(policy.model, policy.eos_id, iter(lambda: self._plans.pop(0), None))

    def sync(self) -> None:
        """Do nothing: the engine reads the policy's own weights."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        finished: Finished | None = None,
        partial: Sequence[Sequence[Completion]] | None = None,
    ) -> list[tuple[Completion, ...]]:
        """Sample completions of planned lengths; see ``RolloutEngine.generate``."""
        requests, added = RequestBatch(self._policy, prompts, sampling, partial, None).requests, []
        for batch in self._engine._chunks(requests):
            rows = [(r.max_new_tokens, left) for r in batch for left in self._remaining(r, seeds, sampling)]
            self._plans.append([left for _, left in rows])
            added += [min(row) for row in rows]
        self.depths.append(max(added))
        self.tokens.append(sum(added))
        return self._engine.generate(prompts, sampling, seeds, finished, partial)

    def _remaining(self, request: DecodingRequest, seeds: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Yield the remaining planned length of each of a request's completions."""
        for copy in range(request.first, request.first + request.copies):
            drawn = random.Random(seeds[request.prompt] + copy).lognormvariate(0.0, self.sigma)
            length = min(max(round(self.median * drawn), SHORTEST), sampling.max_tokens)
            # The first token of a call cannot be forced to be the last.
            yield length + (length % self.segment == 1) - request.generated


def side(
    shape: Shape, median: float, sigma: float, segment: int, rollouts: RolloutSettings, lap: Lap
) -> tuple[list[int], list[int]]:
    """Train the stage one way, and return depth and tokens of each step."""
    engine = PlannedEngine(median, sigma, segment)
    ours.train(shape, lap, engine, rollouts=rollouts)
    return engine.depths, engine.tokens


def benchmark(
    policy: str = "embedded",
    prompts: int = 8,
    group: int = 8,
    median: float = 41.0,
    sigma: float = 0.6,
    max_tokens: int = 240,
    segment: int = 80,
    steps: int = 12,
    threads: int = 1,
) -> None:
    """Print a table, and the ratios as one line of JSON.

    Args:
        policy: ``embedded``, a directory, or a hub id.
        prompts: Prompts per step.
        group: Completions per prompt.
        median: Of the log-normal lengths, in tokens.
        sigma: Of the logarithm of the lengths.
        max_tokens: Longest completion.
        segment: Tokens of a completion that a step samples at most.
        steps: Of the stage; the first one warms up, and counts in no time.
        threads: CPU threads of torch.
    """
    quiet(threads)
    rollouts = {"whole": RolloutSettings(), "segments": RolloutSettings(segment_tokens=segment)}
    with ours.saved_for(policy, max_tokens) as directory:
        shape = Shape(directory, prompts, group, max_tokens, steps)
        sides = {name: partial(side, shape, median, sigma, segment, own) for name, own in rollouts.items()}
        runs = take_turns(sides, partial(quiet, threads))
    rows, means = [], []
    for name, (costs, (depths, tokens)) in runs.items():
        depth, seconds, cpu = sum(depths) / steps, *map(statistics.mean, zip(*costs[1:], strict=True))
        means.append((depth, seconds, cpu))
        rows.append(f"{name} | {sum(tokens)} | {depth:.0f} | {max(depths)} | {seconds:.2f} | {cpu:.2f}")
    print_table("completions | tokens | depth of a step: mean | deepest | seconds a step | CPU seconds a step", rows)
    names = ("ratio_depth", "ratio_seconds", "ratio_cpu")
    print_json({name: whole / cut for name, whole, cut in zip(names, *means, strict=True)})


if __name__ == "__main__":
    auto_cli(benchmark)
