"""Each program of `benchmarks/` runs to its last line, which is one JSON object with its ratios."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from itertools import islice

import pytest

from benchmarks import memory, rewards, scaling, step
from benchmarks.lengths import PlannedLengths, log_normal
from benchmarks.turns import Turns
from omnithink_pl.rollout import Sampling, TransformersEngine
from tests.tiny import EOS, TinyPolicy, random_tokens, tiny_qwen

TRL = importlib.util.find_spec("trl") is not None


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_memory(capsys: pytest.CaptureFixture[str]) -> None:
    memory.benchmark(hidden=512)
    ratios = last_line(capsys)
    assert ratios["ratio_naive"] >= 8.0
    assert ("ratio_trl" in ratios) == TRL


def test_rewards(capsys: pytest.CaptureFixture[str]) -> None:
    rewards.benchmark(items=4, workers=2, turns=1)
    assert last_line(capsys).keys() >= {"efficiency_verifications", "efficiency_programs"}


def test_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.benchmark(prompts=1, group=2, median=3.0, max_tokens=6, factor=2, turns=1)
    names = {"ratio_group", "ratio_batch", "ratio_length", "ratio_ranks", "efficiency_ranks"}
    assert last_line(capsys).keys() == names


def test_step_runs_or_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        step.benchmark(prompts=2, group=2, median=3.0, max_tokens=6, turns=2)

    if not TRL:
        with pytest.raises(SystemExit, match=r"TRL: pip install -e '\.\[bench\]'"):
            run()
        return
    run()
    assert last_line(capsys).keys() >= {"ratio_trl", "ratio_trl_fixed", "ratio_floor"}


def test_completions_have_their_planned_lengths() -> None:
    plans = log_normal(rows=12, median=8.0, sigma=1.0, longest=30, seed=0)
    policy = TinyPolicy(tiny_qwen())
    PlannedLengths(policy.model, EOS, log_normal(12, 8.0, 1.0, 30, seed=0))
    engine = TransformersEngine()
    engine.attach(policy)
    for planned in islice(plans, 2):
        drawn = engine.generate(random_tokens(5, 6, 7), Sampling(4, max_tokens=30), seeds=[1, 2, 3])
        assert [len(c.token_ids) for group in drawn for c in group] == planned
        assert all(c.token_ids[-1] == EOS for group in drawn for c in group)


def test_lengths_have_a_long_tail() -> None:
    lengths = next(log_normal(10_000, 40.0, 0.6, 1000, seed=0))
    assert 38 <= sorted(lengths)[5000] <= 42
    assert max(lengths) > 200


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str):
        def program(lap) -> None:
            for _ in range(3):
                order.append(name)
                lap()

        return program

    costs = Turns(["a", "b", "c"]).run({name: side(name) for name in "abc"})
    assert order == list("abcabcabc")
    assert Counter(map(len, costs.values())) == {3: 3}


def test_a_side_that_fails_ends_the_others() -> None:
    def fails(lap) -> None:
        lap()
        raise ValueError("no more")

    def goes_on(lap) -> None:
        while True:
            lap()

    with pytest.raises(ValueError, match="no more"):
        Turns(["a", "b"]).run({"a": goes_on, "b": fails})
