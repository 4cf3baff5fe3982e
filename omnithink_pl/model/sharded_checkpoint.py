"""A checkpoint of a sharded model: each process writes its own parts, beside one file that holds everything else.

``last.ckpt`` is a file as that of one process, with empty tensors in place of sharded ones. It names the folder with
their parts, one file a process, and is written after these and renamed into place: whoever sees it finds all of them,
and where writing ends in the middle, the one before stands, with its own folder. Nothing is gathered.

Any number of processes reads the parts, sharded or not: each takes what it needs from files that are mapped, not read.
PyTorch's own format for this (``torch.distributed.checkpoint``) has no checksums, and reading it runs what is pickled
in it.

Not covered: tensors that are sharded along more than one dimension of a device mesh.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from omnithink_pl.errors import BadInput
from omnithink_pl.model.checkpoint_file import (
    DamagedCheckpoint,
    read_mapped,
    read_whole,
    write_whole,
)

_NAMED = "shards"  # key of the folder of the parts, in the file that holds everything else
_FOLDER = ".shards"  # behind the name of that file

Parts = dict[str, tuple[list[int], Tensor]]
"""Of each sharded tensor, by its place in the checkpoint: where this part begins, and the part."""


@torch.no_grad()
def split(checkpoint: dict[str, Any]) -> tuple[dict[str, Any], Parts]:
    """Return a checkpoint with empty tensors in place of sharded ones, and this process's parts of these."""
    parts: Parts = {}

    def take(place: str, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        _, start = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
        local = tensor.to_local()
        if local.untyped_storage().nbytes() > local.nbytes:
            local = local.clone()  # or what it is a view of would be written
        parts[place] = (list(start), local)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return _replaced(checkpoint, take), parts


def write_parts(parts: Parts, folder: Path, rank: int, mark: str) -> None:
    """Write a process's parts, to the disk itself, under a mark of this checkpoint's own."""
    write_whole({"parts": parts, "of": [mark, rank]}, folder / f"{rank}.ckpt")


def write_rest(rest: dict[str, Any], path: Path, folder: Path, ranks: int, mark: str) -> None:
    """Write everything else, when all parts are written: now the checkpoint is there."""
    write_whole({**rest, _NAMED: {"folder": folder.name, "ranks": ranks, "mark": mark}}, path)


def shards_name(path: Path) -> str:
    """Return how the folders of a checkpoint's parts are called, but for a number."""
    return path.name + _FOLDER


def remove_unnamed(path: Path) -> None:
    """Remove folders of parts that a checkpoint does not name: of the one before, or where writing was cut off."""
    if folders := list(path.parent.glob(f"{shards_name(path)}*")):
        named = read_mapped(path).get(_NAMED, {}).get("folder") if path.exists() else None
        for folder in folders:
            if folder.name != named:
                shutil.rmtree(folder)


def shards_of(checkpoint: dict[str, Any], path: Path) -> Shards | None:
    """Return the parts that a checkpoint's file names; ``None`` if it holds everything itself.

    Raises:
        DamagedCheckpoint: If one is missing; names it.
    """
    named = checkpoint.get(_NAMED)
    if named is None:
        return None
    files = [path.parent / named["folder"] / f"{rank}.ckpt" for rank in range(named["ranks"])]
    for file in files:
        if not file.is_file():
            raise DamagedCheckpoint(f"{file} is missing, which belongs to it: copy its folder too")
    return Shards(files, named["mark"])


def read_full(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, in full, whether parts of it are in files of their own or not.

    Raises:
        DamagedCheckpoint: If something is damaged or missing; names the file of a part.
        OSError: If it cannot be read.
    """
    found = read_whole(path)
    shards = shards_of(found, path)
    if shards is None:
        return found
    for problem in shards.damage():
        raise DamagedCheckpoint(problem)
    return shards.fill(found)


@final
class StreamedCheckpointIO(TorchCheckpointIO):
    """Lightning's writing without the copy in memory, and its reading for processes that each hold the whole model."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to one file; parts of one before it, of several processes, are removed."""
        write_whole(checkpoint, Path(path))
        remove_unnamed(Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, in full; its file is known to be whole, those of its parts are not.

        Raises:
            BadInput: If one of these is damaged or missing; names it.
        """
        found: dict[str, Any] = super().load_checkpoint(path, weights_only=weights_only)
        shards = shards_of(found, Path(path))
        if shards is None:
            return found
        refuse_damaged(shards.damage())
        return shards.fill(found)


def refuse_damaged(problems: Sequence[str]) -> None:
    """Raise ``BadInput`` if there are problems."""
    if problems:
        raise BadInput(f"--ckpt_path: {problems[0]}; take another checkpoint, or start anew without --ckpt_path")


@final
class Shards:
    """The parts of a checkpoint's sharded tensors, mapped from their files.

    Args:
        files: One a process that wrote them.
        mark: Of the checkpoint that they belong to.
    """

    def __init__(self, files: Sequence[Path], mark: str) -> None:
        self._files, self._mark = files, mark

    def damage(self, rank: int = 0, ranks: int = 1) -> list[str]:
        """Compare checksums and marks, of every ``ranks``-th file; return what is wrong, by file."""
        problems = []
        for number in range(rank, len(self._files), ranks):
            file = self._files[number]
            try:
                if read_whole(file).get("of") != [self._mark, number]:
                    problems.append(f"{file} belongs to another checkpoint")
            except OSError as error:
                problems.append(f"{file} is damaged ({error})")
        return problems

    def fill(self, checkpoint: dict[str, Any], mesh: DeviceMesh | None = None) -> dict[str, Any]:
        """Return a checkpoint with its tensors in place of empty ones: sharded along a mesh, or in full.

        Raises:
            DamagedCheckpoint: If parts are missing.
        """
        written: list[Parts] = [read_mapped(file)["parts"] for file in self._files]

        def put(place: str, empty: Tensor) -> Tensor:
            if not empty.is_meta:
                return empty
            found = [parts[place] for parts in written if place in parts]
            if mesh is None:
                return _assembled(place, empty, empty.shape, [0] * empty.dim(), found)
            shape, start = compute_local_shape_and_global_offset(empty.shape, mesh, [Shard(0)])
            local = _assembled(place, empty, shape, start, found)
            return DTensor.from_local(local, mesh, [Shard(0)], shape=empty.shape, stride=empty.stride())

        return {key: value for key, value in _replaced(checkpoint, put).items() if key != _NAMED}


def _assembled(
    place: str, like: Tensor, shape: Sequence[int], start: Sequence[int], parts: Sequence[tuple[list[int], Tensor]]
) -> Tensor:
    """Copy a block of a tensor together from the parts that overlap it."""
    block, missing = torch.empty(tuple(shape), dtype=like.dtype), like.new_empty(tuple(shape)).numel()
    for first, part in parts:
        low = [max(a, b) for a, b in zip(start, first, strict=True)]
        ends = zip(start, shape, first, part.shape, strict=True)
        high = [min(a + size, b + length) for a, size, b, length in ends]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            continue
        source = part[tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))]
        block[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))] = source
        missing -= source.numel()
    if missing:
        raise DamagedCheckpoint(f"its files do not have all of {place}")
    return block


def _replaced(checkpoint: dict[str, Any], change: Callable[[str, Tensor], Tensor]) -> dict[str, Any]:
    """Return nested values with each tensor changed, given its place; one that is at two places, once."""
    done: dict[int, Tensor] = {}

    def visit(value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in done:
                done[id(value)] = change(place, value)
            return done[id(value)]
        if type(value) in (dict, OrderedDict):
            return {key: visit(inner, f"{place}/{key}") for key, inner in value.items()}
        if type(value) in (list, tuple):
            return type(value)(visit(inner, f"{place}/{number}") for number, inner in enumerate(value))
        return value

    return dict(visit(checkpoint, ""))
