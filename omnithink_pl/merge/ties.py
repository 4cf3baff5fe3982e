"""TIES-Merging of one tensor: trim, elect sign, disjoint mean. Pure arithmetic.

Yadav, Tam, Choshen, Raffel and Bansal 2023, "TIES-Merging: Resolving Interference When Merging Models", section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor


@dataclass(frozen=True)
class Merged:
    """A merged tensor and what the models agreed on.

    Args:
        tensor: theta_base + scale * tau, of the base's shape, in the widest dtype of base and models.
        kept: Elements of each task vector that survived the trimming.
        contested: Elements for which the surviving values had both signs.
        changed: Elements for which any value survived.
    """

    tensor: Tensor
    kept: tuple[int, ...]
    contested: int
    changed: int


def merge_tensor(base: Tensor, tuned: Sequence[Tensor], thresholds: Sequence[float], scale: float = 1.0) -> Merged:
    """Merge several fine-tuned versions of a tensor.

    With task vectors tau_k = theta_k - theta_base: values below a model's threshold are set to 0 (trim); the sign of an
    element is that of the sum over models (elect); tau is the mean over those models whose value is not 0 and has
    that sign (disjoint mean). Where values of both signs cancel exactly the element stays the base's. Computed in
    float32.

    Args:
        base: The tensor before fine-tuning.
        tuned: The same tensor of each model, of the base's shape.
        thresholds: Smallest magnitude that each model's task vector keeps.
        scale: lambda, by which the merged task vector is multiplied.
    """
    start = base.float()
    vectors = torch.stack([task_vector(base, one) for one in tuned])
    least = torch.tensor(thresholds, dtype=torch.float32).view(-1, *[1] * base.dim())
    vectors[vectors.abs() < least] = 0.0
    elected = vectors.sum(0).sign()
    agreeing = (vectors.sign() == elected) & (vectors != 0)
    mean = (vectors * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)
    positive, negative = (vectors > 0).any(0), (vectors < 0).any(0)
    widest = reduce(torch.promote_types, (one.dtype for one in tuned), base.dtype)
    return Merged(
        tensor=(start + scale * mean).to(widest),
        kept=tuple((vectors != 0).flatten(1).sum(1).tolist()),
        contested=int((positive & negative).sum()),
        changed=int((positive | negative).sum()),
    )


def task_vector(base: Tensor, tuned: Tensor) -> Tensor:
    """theta_tuned - theta_base in float32: what fine-tuning changed."""
    return tuned.float() - base.float()
