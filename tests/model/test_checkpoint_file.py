"""A checkpoint is written without a copy in memory, whole or not at all, and read whole or not at all."""

from __future__ import annotations

import random
import resource
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from omnithink_pl.model.checkpoint_file import DamagedCheckpoint, read_whole, share_tied
from omnithink_pl.model.policy import load_policy
from omnithink_pl.model.sharded_checkpoint import StreamedCheckpointIO


def state(megabytes: int = 1, seed: int = 0) -> dict[str, Any]:
    """A checkpoint without a byte of zeros in its tensors."""
    values = torch.randint(1, 256, (4, megabytes << 18), dtype=torch.uint8, generator=torch.manual_seed(seed))
    return {"state_dict": {f"w{i}": row.clone() for i, row in enumerate(values)}, "steps_done": 7, "names": ["a", "b"]}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    plain = one.keys() == other.keys() and all(one[key] == other[key] for key in ("steps_done", "names"))
    weights, others = one["state_dict"], other["state_dict"]
    return plain and weights.keys() == others.keys() and all(torch.equal(weights[k], others[k]) for k in weights)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A disk that is full when a file has this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_saving_takes_no_copy_in_memory(tmp_path: Path) -> None:
    checkpoint = state(megabytes=32)
    tracemalloc.start()
    StreamedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "last.ckpt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert (tmp_path / "last.ckpt").stat().st_size > 32 << 20
    assert same(read_whole(tmp_path / "last.ckpt"), checkpoint)


@pytest.mark.parametrize("size", [0, 100, 5000, 1 << 19, (1 << 20) + 500])
def test_where_there_is_no_room_the_checkpoint_before_stays(size: int, tmp_path: Path) -> None:
    path, old = tmp_path / "run" / "last.ckpt", state(seed=1)
    StreamedCheckpointIO().save_checkpoint(old, path)
    with files_up_to(size), pytest.raises(OSError, match="File too large"):
        StreamedCheckpointIO().save_checkpoint(state(seed=2), path)
    assert same(read_whole(path), old)
    assert [found.name for found in path.parent.iterdir()] == ["last.ckpt"]


def test_zeros_anywhere_are_damage_or_change_nothing(tmp_path: Path) -> None:
    path, damaged, checkpoint = tmp_path / "last.ckpt", tmp_path / "damaged.ckpt", state()
    StreamedCheckpointIO().save_checkpoint(checkpoint, path)
    whole = path.read_bytes()
    lost = random.Random(0)
    places = [*(lost.randrange(len(whole)) for _ in range(40)), 0, len(whole) - 22, len(whole) // 2, 600, 100]
    harmless = 0
    for place in places:
        length = min(512, len(whole) - place)
        damaged.write_bytes(whole[:place] + bytes(length) + whole[place + length :])
        try:
            harmless += same(read_whole(damaged), checkpoint)
        except DamagedCheckpoint:
            continue
        assert harmless, f"zeros at {place} changed a value"
    assert harmless <= 3, "only what the archive is padded with may be lost"


def test_a_file_that_ends_early_or_holds_something_else_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    StreamedCheckpointIO().save_checkpoint(state(), path)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[:-1], whole[: len(whole) // 2], bytes(len(whole))):
        path.write_bytes(content)
        with pytest.raises(DamagedCheckpoint):
            read_whole(path)
    for other in ([1, 2], {"a": Path("/tmp")}, {"a": print}):  # a list; classes and functions, which are not loaded
        torch.save(other, path)
        with pytest.raises(DamagedCheckpoint):
            read_whole(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no checkpoint")
    with pytest.raises(DamagedCheckpoint):
        read_whole(path)
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "nowhere.ckpt")


def test_tied_weights_are_stored_once_though_gathered_apart(tmp_path: Path) -> None:
    model = load_policy("embedded").model
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    tied = {"model.embed_tokens.weight", "lm_head.weight"}
    size = gathered["lm_head.weight"].nbytes
    StreamedCheckpointIO().save_checkpoint({"state_dict": dict(gathered)}, tmp_path / "twice.ckpt")
    share_tied(gathered, model)
    StreamedCheckpointIO().save_checkpoint({"state_dict": gathered}, tmp_path / "once.ckpt")
    saved = (tmp_path / "twice.ckpt").stat().st_size - (tmp_path / "once.ckpt").stat().st_size
    assert size <= saved < size + 1000
    again = read_whole(tmp_path / "once.ckpt")["state_dict"]
    assert again.keys() >= tied
    for name, value in model.state_dict().items():
        assert torch.equal(again[name], value)
