"""The lengths that benchmarks force on vLLM."""

from __future__ import annotations

from functools import partial
from itertools import islice

from benchmarks.engines import PlannedEngine
from benchmarks.lengths import log_normal
from omnithink_pl.rollout.base import Sampling
from tests.tiny import TinyPolicy, random_tokens, tiny_qwen


def test_completions_have_their_planned_lengths() -> None:
    plans = partial(log_normal, 12, 8.0, 1.0, 30, 0)
    engine = PlannedEngine("vllm", plans)
    engine.attach(TinyPolicy(tiny_qwen()))  # type: ignore[arg-type]
    for planned in islice(plans(), 2):
        engine.sync()
        drawn = engine.generate(random_tokens(5, 6, 7), Sampling(4, max_tokens=30), [1, 2, 3])
        assert [len(completion.token_ids) for group in drawn for completion in group] == planned
