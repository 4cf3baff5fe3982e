"""A checkpoint's file: written in a stream, there whole or not at all, and checked before anything is read from it.

Lightning serialises a checkpoint into memory first and copies that to the file. Here tensors go to the file one by one:
saving takes no memory beyond what the checkpoint itself holds. The file is the zip archive of ``torch.save``, which has
a checksum of each tensor; ``torch.load`` compares none, and reads a lost block of a disk as zeros.

Not covered: remote file systems, and damage done on purpose.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from omnithink_pl.whole import whole_file

_BLOCK = 1 << 24  # bytes read at once
# What opening or unpickling raises of bytes that nobody has chosen.
_NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError)
_NO_PICKLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError)


class DamagedCheckpoint(OSError):
    """A file is not whole, or no checkpoint at all."""


def write_whole(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint to a file.

    Raises:
        OSError: If it cannot be written; what was there before is unchanged.
    """
    with whole_file(path) as file:
        _write(checkpoint, file)


class _Remembering:
    """A file that keeps the error of a failed write: ``torch.save`` then raises another one, about its position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    remembering = _Remembering(file)
    try:
        torch.save(checkpoint, remembering)  # type: ignore[arg-type]  # of a file it needs no more than this
    except (RuntimeError, OSError) as error:
        if remembering.error is None:
            raise
        raise remembering.error from error


def read_whole(path: Path) -> dict[str, Any]:
    """Return what a checkpoint's file holds, with tensors that are mapped from it, after comparing all checksums.

    Raises:
        DamagedCheckpoint: If the file is not whole, or holds no dictionary of plain values.
        OSError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as content:
                    while content.read(_BLOCK):  # the last read compares the checksum
                        pass
    except _NO_ARCHIVE as error:
        raise DamagedCheckpoint(str(error) or type(error).__name__) from error
    return read_mapped(path)


def read_mapped(path: Path) -> dict[str, Any]:
    """Return what a file holds, with tensors that are mapped from it; nothing is compared.

    Raises:
        DamagedCheckpoint: If it holds no dictionary of plain values.
        OSError: If it cannot be read.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _NO_PICKLE as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedCheckpoint(first or type(error).__name__) from error
    if not isinstance(found, dict):
        raise DamagedCheckpoint(f"it holds a {type(found).__name__}")
    return found


def share_tied(state: dict[str, Tensor], model: torch.nn.Module) -> None:
    """Let the entries of tied parameters share one tensor, which is stored once.

    Gathering a sharded model makes a tensor of each name. The head of a small model, tied to its embedding, is a
    quarter of the whole.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if kept != name and kept in state and name in state:
            state[name] = state[kept]
