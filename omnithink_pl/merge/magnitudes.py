"""The k-th largest magnitude of a vector that is never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_HALF = 16  # bits that one pass decides
_BINS = 1 << _HALF


def trim_threshold(pieces: Callable[[], Iterable[Tensor]], density: float) -> float:
    """The smallest magnitude among the largest ``density`` of all values.

    The bits of a non-negative float32, read as an integer, are in the order of the floats. So two passes over the
    values, each counting one half of the bits, find the k-th largest exactly, whatever the length: a radix select.

    Args:
        pieces: Gives the float32 pieces of the vector anew each time it is called.
        density: Share of the values to keep, in (0, 1]. Values equal to the threshold are all kept.

    Returns:
        The magnitude; 0 if fewer values than that differ from 0.

    Raises:
        ValueError: If a value is not finite.
    """
    high = _count(_bits(piece) >> _HALF for piece in pieces())
    keep = max(1, round(density * int(high.sum())))
    top, above = _locate(high, keep)
    low = _count(bits[bits >> _HALF == top] & (_BINS - 1) for bits in map(_bits, pieces()))
    bottom, _ = _locate(low, keep - above)
    return float(torch.tensor([top << _HALF | bottom], dtype=torch.int32).view(torch.float32))


def _bits(piece: Tensor) -> Tensor:
    if not bool(piece.isfinite().all()):
        raise ValueError("a value is not finite")
    return piece.abs().flatten().view(torch.int32)


def _count(values: Iterable[Tensor]) -> Tensor:
    total = torch.zeros(_BINS, dtype=torch.int64)
    for value in values:
        total += torch.bincount(value, minlength=_BINS)
    return total


def _locate(counts: Tensor, keep: int) -> tuple[int, int]:
    """The bin of the ``keep``-th largest value, and how many values lie in the bins above it."""
    from_above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_above, keep))
    above = int(from_above[place - 1]) if place else 0
    return _BINS - 1 - place, above
