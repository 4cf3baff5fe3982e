"""Weights in parts that fit into requests of JSON: pieces of safetensors files, which hold data and nothing to execute.

A large tensor is a file of its own and comes in several parts; small ones share a file. Each part has a number, a size
and a checksum, so that what was lost, repeated or damaged on its way is refused instead of loaded.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import final

from safetensors.torch import load, save
from torch import Tensor

LIMIT = 32 << 20  # bytes of a part, before base64


@dataclass(frozen=True)
class WeightPart:
    """One request's share of the weights; its fields are those of the JSON.

    Args:
        number: Of this part, from 0 in every transfer.
        ends_file: Whether the file is complete with this part.
        ends_weights: Whether this is the last part of all; it has no data.
        size: Bytes of the data.
        sha256: Checksum of the data.
        data: In base64.
    """

    number: int
    ends_file: bool
    ends_weights: bool
    size: int
    sha256: str
    data: str


def weight_parts(weights: Iterable[tuple[str, Tensor]], limit: int = LIMIT) -> Iterator[WeightPart]:
    """Yield all weights in parts of at most ``limit`` bytes; not more than one file is in memory at a time."""
    numbers = count()
    for file in _files(weights, limit):
        for start in range(0, len(file), limit):
            yield _part(next(numbers), file[start : start + limit], ends_file=start + limit >= len(file))
    yield _part(next(numbers), b"", ends_weights=True)


def _part(number: int, data: bytes, ends_file: bool = False, ends_weights: bool = False) -> WeightPart:
    checksum = sha256(data).hexdigest()
    return WeightPart(number, ends_file, ends_weights, len(data), checksum, b64encode(data).decode())


def _files(weights: Iterable[tuple[str, Tensor]], limit: int) -> Iterator[bytes]:
    """Yield safetensors files of about ``limit`` bytes, or of one larger tensor."""
    file: dict[str, Tensor] = {}
    for name, value in weights:
        if file and sum(one.nbytes for one in file.values()) + value.nbytes > limit:
            yield save(file)
            file = {}
        file[name] = value.cpu().contiguous()
    if file:
        yield save(file)


@final
class WeightAssembler:
    """Puts the parts of one transfer together, in their order."""

    def __init__(self) -> None:
        self._next = 0
        self._file = bytearray()

    def add(self, part: WeightPart) -> dict[str, Tensor]:
        """Return the weights of the file that a part completes, by name; none before.

        Raises:
            ValueError: If a part is damaged, missing or repeated, or no part of safetensors files.
        """
        if part.number != self._next:
            raise ValueError(f"part {part.number} of the weights came where part {self._next} was expected")
        data = b64decode(part.data, validate=True)
        if len(data) != part.size or sha256(data).hexdigest() != part.sha256:
            raise ValueError(f"part {part.number} of the weights was damaged on its way: its checksum is another")
        if part.ends_weights and self._file:
            raise ValueError(f"the weights end with part {part.number} in the middle of a file")
        self._next += 1
        self._file += data
        if not part.ends_file:
            return {}
        file, self._file = bytes(self._file), bytearray()
        return dict(load(file))
