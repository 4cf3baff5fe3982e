"""Processes that divide each batch train as one with the whole batch, and any number of them goes on from any other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.sharded_checkpoint import read_full
from tests.distributed.ranks import DDP, EQUAL, EXACT, FAR, LORA, SHARDED, checkpoint, distance, keeping, put_kept, run
from tests.model.test_compilation import COMPILERS_OWN

pytestmark = pytest.mark.slow
KEPT = keeping(2)
EXACTLY = 1e-12
FOUR = [SHARDED[0], "--trainer.strategy.init_args.data_parallel_size=4"]
HOW = {"1": (1, []), "2": (2, DDP), "2 sharded": (2, SHARDED)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run by one process, by two, and by two that divide the model; with a checkpoint of its middle."""
    found = {}
    for name, (ranks, strategy) in HOW.items():
        found[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        assert run(found[name], *strategy, KEPT, ranks=ranks) == [0] * ranks, name
    before = {f"model.{name}": value for name, value in load_policy("embedded").model.state_dict().items()}
    assert distance(before, checkpoint(found["1"])["state_dict"]) > FAR
    return found


def largest_difference(a: Path, b: Path) -> float:
    """Between two runs."""
    return difference(checkpoint(a), checkpoint(b))


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Between weights, optimiser state and reference of two runs that have done the same steps with equal scores."""
    for part in ("steps_done", "failures"):
        assert ours[part] == theirs[part]
    assert ours["callbacks"]["StageEvaluation"] == theirs["callbacks"]["StageEvaluation"]
    pairs = [(ours["state_dict"], theirs["state_dict"]), (ours["reference"], theirs["reference"])]
    ours, theirs = ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"]
    assert ours.keys() == theirs.keys()
    return max(distance(*pair) for pair in [*pairs, *((ours[index], theirs[index]) for index in ours)])


@pytest.mark.parametrize("name", ["2", "2 sharded"])
def test_two_processes_equal_one_with_the_whole_batch(name: str, runs: dict[str, Path]) -> None:
    assert largest_difference(runs[name], runs["1"]) < EQUAL


@pytest.mark.parametrize("setting", ["reduce_once", pytest.param("compile_layers", marks=COMPILERS_OWN)])
def test_how_a_sharded_model_is_computed_changes_nothing(setting: str, runs: dict[str, Path], tmp_path: Path) -> None:
    assert run(tmp_path, *SHARDED, f"--model.memory.{setting}=true", ranks=2) == [0, 0]
    assert largest_difference(tmp_path, runs["1"]) < EQUAL


def test_a_sharded_checkpoint_holds_tied_weights_once_too(runs: dict[str, Path]) -> None:
    folders = {name: next(path.glob("short/*/last.ckpt")).parent for name, path in runs.items()}
    files = {
        name: [f for f in path.rglob("*.ckpt") if path / "kept" not in f.parents] for name, path in folders.items()
    }
    sizes = {name: sum(file.stat().st_size for file in found) for name, found in files.items()}
    assert sizes["2 sharded"] == pytest.approx(sizes["1"], rel=0.01)


def test_two_processes_equal_one_with_adamw_too_where_rounding_is_far_below_its_epsilon(tmp_path: Path) -> None:
    for name, (ranks, strategy) in HOW.items():
        assert run(tmp_path / name, *strategy, *EXACT, ranks=ranks) == [0] * ranks, name
    for name in ("2", "2 sharded"):
        assert largest_difference(tmp_path / name, tmp_path / "1") < EXACTLY, name
    trained = checkpoint(tmp_path / "1")["state_dict"]
    before = {f"model.{name}": value for name, value in load_policy("embedded").model.state_dict().items()}
    assert distance(before, trained) > FAR
    assert {value.dtype for value in trained.values()} == {torch.float64}


@pytest.mark.parametrize(("signal_name", "hit"), [("SIGINT", [0, 1]), ("SIGTERM", [1])])
def test_a_signal_ends_all_processes_together_between_two_steps(
    signal_name: str, hit: list[int], runs: dict[str, Path], tmp_path: Path
) -> None:
    step = 2  # the base model's evaluation asks the engine twice, each step once
    at = f"{{call: {2 + step}, signal_name: {signal_name}, ranks: {hit}}}"
    ending = f"--trainer.callbacks=[{{class_path: tests.callbacks.killer.EndAt, init_args: {at}}}]"
    assert run(tmp_path, *DDP, ending, ranks=2) == [1, 1]
    (kept,) = runs["2"].glob("short/*/kept/last.ckpt")
    assert difference(checkpoint(tmp_path), read_full(kept)) == 0
    assert checkpoint(tmp_path)["steps_done"] == step
    if signal_name == "SIGTERM":  # the checkpoints are the same: once is enough
        assert run(tmp_path, *DDP, "--ckpt_path=last", ranks=2) == [0, 0]
        assert largest_difference(tmp_path, runs["2"]) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [("2 sharded", "1"), ("2 sharded", "2"), ("2 sharded", "4 sharded"), ("1", "2"), ("1", "2 sharded")],
)
def test_any_number_of_processes_goes_on_from_any_other(
    before: str, after: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    put_kept(runs[before], tmp_path)
    ranks, strategy = HOW.get(after, (4, FOUR))
    assert run(tmp_path, *strategy, "--ckpt_path=last", ranks=ranks) == [0] * ranks
    assert largest_difference(tmp_path, runs[before]) < EQUAL


@pytest.mark.parametrize("step", [0, 2])
def test_sharded_processes_of_which_one_is_killed_while_they_save_go_on_from_the_checkpoint_before(
    step: int, runs: dict[str, Path], tmp_path: Path
) -> None:
    dying = f"--trainer.callbacks=[{{class_path: tests.distributed.ranks.DieSaving, init_args: {{step: {step}}}}}]"
    assert run(tmp_path, *SHARDED, dying, ranks=2) == [1, -signal.SIGKILL]
    assert checkpoint(tmp_path)["steps_done"] == step
    assert run(tmp_path, *SHARDED, "--ckpt_path=last", ranks=2) == [0, 0]
    assert largest_difference(tmp_path, runs["2 sharded"]) == 0
    assert len(list(tmp_path.rglob("last.ckpt.shards*"))) == 1


def test_law_7_holds_for_adapters_which_are_all_that_a_checkpoint_has(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run(whole, *LORA, KEPT) == [0]
    state = checkpoint(whole)["state_dict"]
    assert all("lora_" in name for name in state)
    assert max(float(value.abs().max()) for name, value in state.items() if "lora_B" in name) > FAR
    put_kept(whole, resumed)
    assert run(resumed, *LORA, "--ckpt_path=last") == [0]
    assert largest_difference(resumed, whole) == 0


SEGMENTS = [
    "--data.batch_size=8",
    "--model.sampling.temperature=1.2",
    "--model.rollouts.segment_tokens=15",  # some groups have ended by then, others have not
    "--evaluation.evaluator.prompts=1",
]


def test_partial_rollouts_survive_a_checkpoint_whichever_number_of_processes_resumes_it(tmp_path: Path) -> None:
    one, resumed, joined = (tmp_path / name for name in ("one", "resumed", "joined"))
    assert run(one, *SEGMENTS, KEPT) == [0]
    put_kept(one, resumed)
    carried = checkpoint(resumed)["rollouts"]["partial"]
    assert [entry["step"] for entry in carried] == [2], "there is something to go on with"
    assert run(resumed, *SEGMENTS, "--ckpt_path=last") == [0]
    assert largest_difference(resumed, one) == 0
    put_kept(one, joined)
    assert run(joined, *SEGMENTS, *DDP, "--ckpt_path=last", ranks=2) == [0, 0]
    assert largest_difference(joined, one) < EQUAL
    assert checkpoint(joined)["rollouts"]["partial"] == [], "a stage ends what it has begun"
