"""TIES (Yadav et al., 2023) on one tensor: trim, elect sign, disjoint mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

_HALF = 16  # bits that one pass of the radix select decides
_BINS = 1 << _HALF


@dataclass(frozen=True)
class Merged:
    """A merged tensor and how far the models agreed, in numbers of elements."""

    tensor: Tensor  # theta_base + scale * tau, of the base's shape, in the widest dtype of base and models
    kept: tuple[int, ...]  # of each task vector: survived trimming
    contested: int  # surviving values had both signs
    changed: int  # any value survived


def task_vector(base: Tensor, tuned: Tensor) -> Tensor:
    """Return theta_tuned - theta_base in float32: what fine-tuning changed."""
    return tuned.float() - base.float()


def merge_tensor(base: Tensor, tuned: Sequence[Tensor], thresholds: Sequence[float], scale: float = 1.0) -> Merged:
    """Merge several fine-tuned versions of a tensor, in float32: theta_base + lambda * tau.

    Args:
        base: theta_base, the tensor before fine-tuning, of any shape.
        tuned: The same tensor of each model.
        thresholds: Smallest magnitude that each model's task vector keeps.
        scale: lambda.
    """
    vectors = torch.stack([task_vector(base, one) for one in tuned])  # (models, *shape)
    least = torch.tensor(thresholds, dtype=torch.float32).view(-1, *[1] * base.dim())
    vectors[vectors.abs() < least] = 0.0  # trim
    elected = vectors.sum(0).sign()  # 0 where both signs cancel: the mean is 0 there
    agreeing = (vectors.sign() == elected) & (vectors != 0)
    mean = (vectors * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)  # disjoint: over the models that agree
    positive, negative = (vectors > 0).any(0), (vectors < 0).any(0)
    widest = reduce(torch.promote_types, (one.dtype for one in tuned), base.dtype)
    return Merged(
        tensor=(base.float() + scale * mean).to(widest),
        kept=tuple((vectors != 0).flatten(1).sum(1).tolist()),
        contested=int((positive & negative).sum()),
        changed=int((positive | negative).sum()),
    )


def trim_threshold(pieces: Callable[[], Iterable[Tensor]], density: float) -> float:
    """Return the smallest magnitude among the largest ``density`` of all values; 0 if fewer of them differ from 0.

    The bits of a non-negative float32, read as an integer, are in the order of the floats. So two passes over the
    values, each counting one half of the bits, find the k-th largest exactly, whatever the length: a radix select.
    The vector is never whole in memory.

    Args:
        pieces: Yields the float32 pieces of the vector anew each time it is called.
        density: Share of the values to keep, in (0, 1]. Values equal to the threshold are all kept.

    Raises:
        ValueError: If a value is not finite.
    """
    high = _histogram(_bits(piece) >> _HALF for piece in pieces())
    keep = max(1, round(density * int(high.sum())))
    top, above = _locate(high, keep)
    low = _histogram(bits[bits >> _HALF == top] & (_BINS - 1) for bits in map(_bits, pieces()))
    bottom, _ = _locate(low, keep - above)
    return float(torch.tensor([top << _HALF | bottom], dtype=torch.int32).view(torch.float32))


def _bits(piece: Tensor) -> Tensor:
    if not bool(piece.isfinite().all()):
        raise ValueError("a value is not finite")
    return piece.abs().flatten().view(torch.int32)


def _histogram(values: Iterable[Tensor]) -> Tensor:
    total = torch.zeros(_BINS, dtype=torch.int64)
    for value in values:
        total += torch.bincount(value, minlength=_BINS)
    return total


def _locate(counts: Tensor, keep: int) -> tuple[int, int]:
    """Return the bin of the ``keep``-th largest value, and how many values lie in the bins above it."""
    from_above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_above, keep))
    above = int(from_above[place - 1]) if place else 0
    return _BINS - 1 - place, above
