"""Each program of `benchmarks/` runs to its last line, which is one JSON object with its ratios."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import time
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import memory, order, rewards, rollout, sandbox, scaling, step, tail
from benchmarks.flops import attention_flops, linear_flops, pairs
from benchmarks.harness import Cost, Lap, run_ranks, take_turns
from benchmarks.lengths import PlannedLengths, log_normal
from benchmarks.ours import Shape
from omnithink_pl.errors import BadInput
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


@pytest.mark.parametrize(
    ("benchmark", "settings", "names"),
    [
        (rewards, {"items": 4, "workers": 2, "turns": 1}, {"efficiency_verifications", "efficiency_programs"}),
        (sandbox, {"programs": 1}, {"bare_ms", "stdin_program_ms", "processes_after_close"}),
        (order, {"rows": 8, "group": 2, "draws": 2}, {"ratio_by_length_4"}),
        (tail, {"prompts": 2, "group": 2, "median": 4.0, "max_tokens": 12, "segment": 6, "steps": 3}, {"ratio_depth"}),
        pytest.param(
            scaling,
            {"prompts": 1, "group": 2, "median": 3.0, "max_tokens": 6, "factor": 2, "turns": 1},
            {"ratio_group", "ratio_batch", "ratio_length", "ratio_ranks", "efficiency_ranks"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["rewards", "sandbox", "order", "tail", "scaling"],
)
def test_runs_in_its_smallest_setting(
    benchmark: ModuleType, settings: dict[str, float], names: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.benchmark(**settings)
    assert last_line(capsys).keys() >= names


def test_rollout_runs_or_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(BadInput, match="make setup-vllm"):
            rollout.benchmark()
        return
    rollout.benchmark(prompts=2, samples=2, max_tokens=4, turns=2)
    assert "| vLLM |" in capsys.readouterr().out


def test_step_runs_or_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    if not TRL:
        with pytest.raises(SystemExit, match=r"TRL: pip install -e '\.\[bench\]'"):
            step.benchmark()
        return
    step.benchmark(prompts=2, group=2, median=3.0, max_tokens=6, turns=2)
    assert last_line(capsys).keys() >= {"ratio_trl", "ratio_trl_fixed", "ratio_floor", "ratio_matmul"}


def test_completions_have_their_planned_lengths() -> None:
    lengths = sorted(next(log_normal(10_000, 40.0, 0.6, 1000, seed=0)))
    assert 38 <= lengths[5000] <= 42
    assert lengths[-1] > 200, "a long tail"
    plans = log_normal(rows=12, median=8.0, sigma=1.0, longest=30, seed=0)
    policy = TinyPolicy(tiny_qwen())
    PlannedLengths(policy.model, EOS, log_normal(12, 8.0, 1.0, 30, seed=0))
    engine = TransformersEngine()
    engine.attach(policy)
    for planned in islice(plans, 2):
        drawn = engine.generate(random_tokens(5, 6, 7), Sampling(4, max_tokens=30), seeds=[1, 2, 3])
        assert [len(c.token_ids) for group in drawn for c in group] == planned
        assert all(c.token_ids[-1] == EOS for group in drawn for c in group)


def test_prompts_of_a_file_stand_behind_worked_examples(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n} + 1?", "answer": f"#### {n + 1}"}) + "\n" for n in range(9)))
    examples = Shape("embedded", 2, 4, 8, 1, str(path), worked=1).examples()
    asked = [example.messages[-1]["content"] for example in examples]
    assert asked == ["0 + 1?\n#### 1\n\n1 + 1?", "0 + 1?\n#### 1\n\n2 + 1?"]


def test_a_short_round_warms_up() -> None:
    assert list(islice(step.warmed_up(partial(log_normal, 3, 40.0, 0.6, 99, 0), 3), 2)) == [
        [2, 2, 2],
        next(log_normal(3, 40.0, 0.6, 99, 0)),
    ]


def notes(path: Path, name: str, lap: Lap) -> str:
    for _ in range(8):
        with path.open("a") as file:
            file.write(name)
        lap()
    return name


def fails(lap: Lap) -> None:
    lap()
    raise ValueError("no more")


def continues(lap: Lap) -> None:
    while True:
        lap()


def is_killed(lap: Lap) -> None:
    """End as the kernel ends a process that takes too much memory, while a child of it holds its files open."""
    if os.fork() == 0:
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


def nothing() -> None:
    pass


def rank_one_fails(rank: int, lap: Lap) -> None:
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == (str(rank), "2")
    if rank == 1:
        raise ValueError("no more")
    time.sleep(60)


def test_a_rank_that_fails_ends_the_others() -> None:
    with pytest.raises(ValueError, match="no more"):
        run_ranks(rank_one_fails, 2, nothing)


def test_every_round_has_one_lap_of_each_side(tmp_path: Path) -> None:
    path = tmp_path / "laps"
    runs = take_turns({name: partial(notes, path, name) for name in "abc"}, nothing)
    order = path.read_text()
    rounds = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert [sorted(one) for one in rounds] == [["a", "b", "c"]] * 8
    assert len(set(rounds)) > 2
    assert {name: (len(run.costs), run.result) for name, run in runs.items()} == {name: (8, name) for name in "abc"}


def test_a_side_that_fails_ends_the_others() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)b failed.*ValueError: no more"):
        take_turns({"a": continues, "b": fails}, nothing)


def test_a_side_that_is_killed_ends_the_others() -> None:
    with pytest.raises(RuntimeError, match="b: its process is gone; was there enough memory"):
        take_turns({"a": continues, "b": is_killed}, nothing)


def test_operations_are_those_that_torch_counts() -> None:
    """Of one sequence whose every token is predicted, but for attention, of which torch counts hidden scores too."""
    model = tiny_qwen(num_hidden_layers=3, tie_word_embeddings=False)
    model.set_attn_implementation("eager")
    (tokens,) = random_tokens(7)
    with FlopCounterMode(display=False) as counter:
        model(torch.tensor([tokens])).logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    scores = counts.pop(torch.ops.aten.bmm)
    head = 6 * model.lm_head.weight.numel()
    assert sum(counts.values()) == linear_flops(model, [3], [4]) + 3 * head
    assert scores / attention_flops(model, [3], [4]) == 7 * 7 / pairs([3], [4])


def test_pairs_are_what_the_masks_show() -> None:
    prompts, completions = [3, 2], [2, 4, 1, 5]
    shown = 0
    for place, length in enumerate(completions):
        prompt = prompts[place // 2]
        shown += int(torch.ones(prompt + length, prompt + length).tril()[prompt:].sum())
    shown += sum(int(torch.ones(prompt, prompt).tril().sum()) for prompt in prompts)
    assert pairs(prompts, completions) == shown


def test_ratios_are_medians_of_rounds() -> None:
    def side(*seconds: float) -> list[Cost]:
        return [Cost(one, 2 * one) for one in seconds]

    costs = {
        "ours": side(2.0, 4.0, 3.0),
        "TRL": side(4.0, 12.0, 30.0),
        "floor": side(1.0, 4.0, 2.0),
        "generate": side(0.5, 1.0, 1.0),
        "products": side(0.5, 1.0, 2.0),
    }
    expected = {"ratio_trl": 3.0, "ratio_floor": 1.5, "ratio_matmul": 2.0}
    found = step.ratios(costs)
    assert {name: found[name] for name in expected} == expected
    assert {name.removesuffix("_cpu"): found[name] for name in found if name.endswith("_cpu")} == expected
