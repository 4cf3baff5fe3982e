"""A checkpoint of several processes is there whole or not at all, and any number of processes reads it."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from omnithink_pl.distributed.fsdp import FSDP2Strategy
from omnithink_pl.errors import BadInput, RankFailure
from omnithink_pl.model import sharded_checkpoint
from omnithink_pl.model.checkpoint_file import DamagedCheckpoint, read_whole
from omnithink_pl.model.sharded_checkpoint import StreamedCheckpointIO, read_full, shards_of
from tests.distributed.ranks import copy_checkpoint, in_processes
from tests.model.test_checkpoint_file import files_up_to

SHAPES = {"even": (8, 6), "uneven": (7, 3), "fewer rows than processes": (1, 5), "vector": (9,), "deep": (5, 2, 3)}


def full_state(seed: int = 0) -> dict[str, Any]:
    """A checkpoint of one process, without a byte of zeros; two names share one tensor."""
    made = torch.manual_seed(seed)
    values = {name: torch.rand(shape, generator=made) + 1 for name, shape in SHAPES.items()}
    values["half"] = values["even"].to(torch.bfloat16)
    moments = [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": values["uneven"] * 2}}, "param_groups": [{"a": 1}]}]
    return {"state_dict": {**values, "tied": values["even"]}, "optimizer_states": moments, "steps_done": 7 + seed}


def strategy(ranks: int) -> FSDP2Strategy:
    made = FSDP2Strategy()
    made.cluster_environment = TorchElasticEnvironment()
    made._device_mesh = init_device_mesh("cpu", (ranks, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    return made


def sharded(state: dict[str, Any], ranks: int) -> dict[str, Any]:
    """The same, with every tensor of more than one number divided among the processes."""
    mesh, done = init_device_mesh("cpu", (ranks,)), {}

    def divide(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dim():
            return done.setdefault(id(value), distribute_tensor(value, mesh, [Shard(0)]))
        if isinstance(value, dict):
            return {key: divide(inner) for key, inner in value.items()}
        return [divide(inner) for inner in value] if isinstance(value, list) else value

    return dict(divide(state))


def assert_same(got: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        got = got.full_tensor() if isinstance(got, DTensor) else got
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, list):
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected


def in_ranks(ranks: int, check: Callable[[int], None]) -> list[int | None]:
    def process(rank: int) -> None:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
        check(rank)
        dist.barrier()
        dist.destroy_process_group()

    return in_processes(ranks, process)


def saved(path: Path, ranks: int = 2, seed: int = 0) -> Path:
    def save(rank: int) -> None:
        strategy(ranks).save_checkpoint(sharded(full_state(seed), ranks), path)

    assert in_ranks(ranks, save) == [0] * ranks
    return path


@pytest.mark.parametrize(("writers", "readers"), [(2, 3), (4, 2)])
def test_any_number_of_processes_reads_what_any_number_wrote(writers: int, readers: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt", writers)
    assert sorted(file.name for file in tmp_path.rglob("*.ckpt")) == [*(f"{i}.ckpt" for i in range(writers)), path.name]
    for read in (read_full(path), StreamedCheckpointIO().load_checkpoint(path)):
        assert_same(read, full_state())
        assert read["state_dict"]["tied"] is read["state_dict"]["even"]

    def check(rank: int) -> None:
        read = strategy(readers).load_checkpoint(path)
        parts = [value for value in read["state_dict"].values() if isinstance(value, DTensor)]
        assert len(parts) == len(SHAPES) + 2
        assert_same(read, full_state())

    assert in_ranks(readers, check) == [0] * readers


def test_nothing_is_written_twice_and_each_process_writes_its_share(tmp_path: Path) -> None:
    def save(rank: int) -> None:
        big = torch.rand(1 << 10, 1 << 8)
        padded = torch.zeros(1 << 20)[: 1 << 8]  # a view of more than is to be written
        mesh = init_device_mesh("cpu", (2,))
        one = distribute_tensor(big, mesh, [Shard(0)])
        view = DTensor.from_local(padded, mesh, [Shard(0)])
        strategy(2).save_checkpoint({"state_dict": {"a": one, "b": one, "c": view}}, tmp_path / "last.ckpt")

    assert in_ranks(2, save) == [0, 0]
    sizes = [file.stat().st_size for file in (tmp_path / "last.ckpt.shards").iterdir()]
    assert len(sizes) == 2
    assert all(1 << 19 < size < (1 << 19) + 5000 for size in sizes)


def test_zeros_anywhere_are_named_or_change_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt")
    part = tmp_path / "last.ckpt.shards" / "1.ckpt"
    whole, lost, found = part.read_bytes(), random.Random(0), 0
    for place in [0, len(whole) - 30, *(lost.randrange(len(whole)) for _ in range(40))]:
        length = min(64, len(whole) - place)
        part.write_bytes(whole[:place] + bytes(length) + whole[place + length :])
        (problem,) = shards_of(read_whole(path), path).damage() or [""]
        assert not problem or str(part) in problem
        found += bool(problem)
        if not problem:
            assert_same(read_full(path), full_state())
    assert found > 20
    part.write_bytes(whole[:-1])

    def check(rank: int) -> None:
        with pytest.raises(BadInput, match=r"shards/1.ckpt is damaged .*; take another checkpoint"):
            strategy(2).load_checkpoint(path)

    assert in_ranks(2, check) == [0, 0]
    with pytest.raises(BadInput, match=r"shards/1.ckpt is damaged"):
        StreamedCheckpointIO().load_checkpoint(path)
    part.unlink()
    with pytest.raises(DamagedCheckpoint, match=r"shards/1.ckpt is missing, which belongs to it: copy its folder too"):
        read_full(path)
    other = saved(tmp_path / "other" / "last.ckpt").with_name("last.ckpt.shards") / "1.ckpt"
    for another in (part.with_name("0.ckpt"), other):
        shutil.copy(another, part)
        with pytest.raises(DamagedCheckpoint, match=r"shards/1.ckpt belongs to another checkpoint"):
            read_full(path)


def test_where_one_process_has_no_room_all_fail_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt")

    def check(rank: int) -> None:
        for tight in (0, 1):
            with pytest.raises(OSError, match="File too large"), files_up_to(500 if rank == tight else 1 << 30):
                strategy(2).save_checkpoint(sharded(full_state(1), 2), path)
            dist.barrier()
            assert_same(read_full(path), full_state())
            dist.barrier()
        strategy(2).save_checkpoint(sharded(full_state(2), 2), path)

    assert in_ranks(2, check) == [0, 0]
    assert_same(read_full(path), full_state(2))
    (folder,) = tmp_path.glob("last.ckpt.shards*")
    assert read_whole(path)["shards"]["folder"] == folder.name


@pytest.mark.parametrize(
    ("killed", "killed_at"), [(1, "write_parts"), (0, "write_parts"), (0, "write_rest"), (0, "remove_unnamed")]
)
def test_killed_at_any_point_the_last_one_stays_or_the_new_one_is_there(
    killed: int, killed_at: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "last.ckpt")

    def check(rank: int) -> None:
        from omnithink_pl.distributed import fsdp

        work, calls = getattr(sharded_checkpoint, killed_at), iter(range(9))

        def half_done(*args: Any) -> None:
            number = next(calls)
            if killed_at == "write_parts" or (killed_at == "remove_unnamed" and number == 0):
                work(*args)
            if killed_at != "remove_unnamed" or number:
                os.kill(os.getpid(), signal.SIGKILL)

        if rank == killed:
            setattr(fsdp, killed_at, half_done)
        with pytest.raises(RankFailure, match="another process of this run is gone"):
            strategy(2).save_checkpoint(sharded(full_state(1), 2), path)
        os._exit(3)

    codes = in_ranks(2, check)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 3
    assert_same(read_full(path), full_state(1 if killed_at == "remove_unnamed" else 0))
    assert_same(read_full(saved(path, seed=2)), full_state(2))
    assert len(list(tmp_path.glob("last.ckpt.shards*"))) == 1, "what was left behind is removed"


def test_a_copy_is_a_checkpoint(tmp_path: Path) -> None:
    path = saved(tmp_path / "run" / "last.ckpt")
    copy_checkpoint(path, tmp_path / "copy")
    shutil.rmtree(path.parent)
    assert_same(read_full(tmp_path / "copy" / "last.ckpt"), full_state())


def test_one_process_that_goes_on_leaves_no_parts_behind(tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt")
    StreamedCheckpointIO().save_checkpoint(full_state(1), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert_same(read_full(path), full_state(1))
