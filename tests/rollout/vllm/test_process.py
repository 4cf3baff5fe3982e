"""The process around an engine: restored environment, checked sleep, requests of a tensor-parallel group."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
import torch.distributed as dist

from omnithink_pl.errors import BadInput
from omnithink_pl.rollout.vllm.process import ProcessState, TensorParallelGroup, check_probe

# Requests of each rank: prompts with their seeds.
DIFFERENT = [[("p", 1), ("q", 2)], [("r", 3)]]
EQUAL = [[("p", 1), ("q", 2)], [("p", 1), ("q", 2)]]
ONE_HAS_NONE = [[], [("p", 1), ("p", 2)]]


def test_the_environment_is_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    before = dict(os.environ)

    def change_and_fail() -> None:
        with ProcessState().preserved({"KEPT": "changed", "NEW": "new"}):
            assert os.environ["KEPT"] == "changed"
            os.environ["ANOTHER"] = "another"
            del os.environ["PATH"]
            raise KeyError

    with pytest.raises(KeyError):
        change_and_fail()
    assert dict(os.environ) == before


@pytest.mark.parametrize("after", [[-1.0, -2.5], [-1.0, float("nan")]])
def test_a_probe_that_differs_after_waking_raises(after: list[float]) -> None:
    check_probe([-1.0, -2.0], [-1.0, -2.001])
    with pytest.raises(RuntimeError, match=r"sleep=false"):
        check_probe([-1.0, -2.0], after)


def gather_on(rank: int, store: str) -> dict[str, Any]:
    """What a rank gathers in a group of two and alone, and why a group of three is refused."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    shared = TensorParallelGroup(2)
    shared.setup()
    gathered = [shared.gather(requests[rank]) for requests in (DIFFERENT, EQUAL, ONE_HAS_NONE)]
    with pytest.raises(BadInput, match="tensor_parallel_size is 3, and 2 processes train"):
        TensorParallelGroup(3).setup()
    dist.barrier()
    return {"shared": gathered, "alone": TensorParallelGroup(1).gather(DIFFERENT[rank])}


def test_two_ranks_make_the_same_requests_and_know_their_own(tmp_path: Any) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ranks = [(rank, str(tmp_path / "store")) for rank in (0, 1)]
        first, second = pool.starmap(gather_on, ranks, chunksize=1)
    both = [("p", 1), ("q", 2), ("r", 3)]
    assert first["shared"] == [(both, [0, 1]), (EQUAL[0], [0, 1]), ([("p", 1), ("p", 2)], [])]
    assert second["shared"] == [(both, [2]), (EQUAL[0], [0, 1]), ([("p", 1), ("p", 2)], [0, 1])]
    assert (first["alone"], second["alone"]) == ((DIFFERENT[0], [0, 1]), (DIFFERENT[1], [0]))


def test_a_group_needs_its_processes() -> None:
    with pytest.raises(BadInput, match="tensor_parallel_size is 2, and 1 processes train; take a divisor"):
        TensorParallelGroup(2).setup()
    assert TensorParallelGroup(1).gather(["a", "b", "a"]) == (["a", "b"], [0, 1, 0])
