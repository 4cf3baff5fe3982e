"""Processes that divide each batch train as one with the whole batch, and are continued by any number of others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from omnithink_pl.policy import load_policy
from tests.distributed.ranks import DDP, SHARDED, checkpoint, distance, fresh, metrics, run

ROW = 2 * 4  # an evaluation asks for completions twice a task
KILLED = (
    f"--trainer.callbacks=[{{class_path: tests.callbacks.killer.EndAt, init_args: {{call: {ROW + 3}, "
    f"signal_name: SIGKILL}}}}]"
)
EQUAL = 1e-6
FAR = 1e-3  # what training moves the weights by, at least


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    directory = fresh(tmp_path_factory.mktemp("alone"), empty_store)
    assert run(directory) == [0]
    before = {f"model.{name}": value for name, value in load_policy("embedded").model.state_dict().items()}
    assert distance(before, checkpoint(directory)["state_dict"]) > FAR
    return directory


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[int, Path]:
    """Runs of one and of two processes that were killed in their third step."""
    found = {}
    for ranks in (1, 2):
        found[ranks] = fresh(tmp_path_factory.mktemp(f"killed-{ranks}"), empty_store)
        assert run(found[ranks], *(DDP if ranks > 1 else []), KILLED, ranks=ranks) == [-9] * ranks
        assert checkpoint(found[ranks])["steps_done"] == 2
    return found


def assert_same(a: Path, b: Path) -> None:
    ours, theirs = checkpoint(a), checkpoint(b)
    assert ours["steps_done"] == theirs["steps_done"]
    assert distance(ours["state_dict"], theirs["state_dict"]) < EQUAL
    assert distance(momenta(a), momenta(b)) < EQUAL
    assert distance(ours["reference"], theirs["reference"]) < EQUAL
    found, expected = metrics(a), metrics(b)
    assert found.keys() == expected.keys()
    for name, history in expected.items():
        assert found[name] == [(step, pytest.approx(value, abs=1e-3)) for step, value in history], name


def momenta(directory: Path) -> dict[str, object]:
    (state,) = checkpoint(directory)["optimizer_states"]
    return {str(index): values["momentum_buffer"] for index, values in state["state"].items()}


@pytest.mark.parametrize("strategy", [DDP, SHARDED], ids=["DDP", "FSDP2"])
def test_two_processes_equal_one_with_the_whole_batch(
    strategy: list[str], alone: Path, tmp_path: Path, tracking_uri: str
) -> None:
    assert run(tmp_path, *strategy, ranks=2) == [0, 0]
    assert_same(tmp_path, alone)


@pytest.mark.parametrize(
    ("before", "after", "strategy"),
    [(2, 1, []), (1, 2, DDP), (1, 2, SHARDED)],
    ids=["2 to 1", "1 to 2", "1 to 2 sharded"],
)
def test_a_killed_run_is_continued_by_another_number_of_processes(
    before: int, after: int, strategy: list[str], alone: Path, killed: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(killed[before], tmp_path, dirs_exist_ok=True)
    assert run(tmp_path, *strategy, "--ckpt_path=last", ranks=after) == [0] * after
    assert_same(tmp_path, alone)
