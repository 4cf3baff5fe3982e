"""TIES equals a plain implementation of the paper: whole vectors, Python floats, one value at a time."""

from __future__ import annotations

import math

import pytest
import torch

from omnithink_pl.merge.ties import merge_tensor, trim_threshold


def plain_threshold(vector: list[float], density: float) -> float:
    return sorted((abs(value) for value in vector), reverse=True)[max(1, round(density * len(vector))) - 1]


def plain_ties(base: list[float], tuned: list[list[float]], density: float, scale: float) -> list[float]:
    """Section 4 of the TIES paper; values equal to the threshold are kept."""
    vectors = [[after - before for before, after in zip(base, one, strict=True)] for one in tuned]
    least = [plain_threshold(vector, density) for vector in vectors]
    merged = []
    for place, before in enumerate(base):
        values = [v[place] if abs(v[place]) >= t else 0.0 for v, t in zip(vectors, least, strict=True)]
        elected = math.copysign(1.0, sum(values)) if sum(values) else 0.0
        agreeing = [value for value in values if value * elected > 0.0]
        merged.append(before + scale * (sum(agreeing) / len(agreeing) if agreeing else 0.0))
    return merged


def random_models(count: int, size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(count)
    base = torch.randn(size, generator=generator)
    return base, [base + 0.1 * torch.randn(size, generator=generator) for _ in range(count)]


def vectors_of(base: torch.Tensor, tuned: list[torch.Tensor]) -> list[list[float]]:
    return [(one - base).tolist() for one in tuned]


@pytest.mark.parametrize("density", [0.01, 0.2, 0.55, 1.0])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_merge_equals_the_plain_one(count: int, density: float) -> None:
    base, tuned = random_models(count, 997)
    thresholds = [plain_threshold(vector, density) for vector in vectors_of(base, tuned)]
    merged = merge_tensor(base.view(-1, 1), [one.view(-1, 1) for one in tuned], thresholds, 0.7)
    expected = plain_ties(base.tolist(), [one.tolist() for one in tuned], density, 0.7)
    # The plain one subtracts in float64, so a value at the threshold may fall on the other side.
    differing = (merged.tensor.flatten().double() - torch.tensor(expected, dtype=torch.float64)).abs() > 1e-5
    assert int(differing.sum()) <= count
    assert merged.tensor.shape == (997, 1)


def test_it_agrees_with_another_implementation() -> None:
    from peft.utils.merge_utils import ties

    base, tuned = random_models(4, 500)
    thresholds = [plain_threshold(vector, 0.2) for vector in vectors_of(base, tuned)]
    theirs = base + ties([one - base for one in tuned], torch.ones(4), density=0.2)
    torch.testing.assert_close(merge_tensor(base, tuned, thresholds).tensor, theirs)


def test_what_all_models_share_is_kept_whole_and_what_cancels_is_left_alone() -> None:
    base = torch.zeros(4)
    tuned = [torch.tensor([1.0, 2.0, 3.0, 0.5]), torch.tensor([1.0, -2.0, -1.0, 0.0])]
    merged = merge_tensor(base, tuned, [1.0, 1.0])
    assert merged.tensor.tolist() == [1.0, 0.0, 3.0, 0.0]
    assert (merged.kept, merged.contested, merged.changed) == ((3, 3), 2, 3)


def test_the_result_is_as_precise_as_the_most_precise_of_the_models() -> None:
    base, tuned = random_models(2, 10)
    half = [one.bfloat16() for one in tuned]
    for first, rest, wanted in [(base.bfloat16(), tuned, torch.float32), (base.bfloat16(), half, torch.bfloat16)]:
        assert merge_tensor(first, rest, [0.0, 0.0]).tensor.dtype is wanted


@pytest.mark.parametrize("density", [1e-6, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
def test_the_threshold_is_the_kth_largest_magnitude_whatever_the_pieces(density: float, spread: float) -> None:
    vector = torch.randn(1501, generator=torch.Generator().manual_seed(3)) * spread
    vector[7:90] = vector[3]  # equal values at many places
    vector[200:300] = 0.0

    assert trim_threshold(lambda: vector.split(400), density) == plain_threshold(vector.tolist(), density)


def test_a_model_that_did_not_change_has_the_threshold_zero_and_one_that_is_not_finite_is_refused() -> None:
    assert trim_threshold(lambda: [torch.zeros(10)], 0.2) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        trim_threshold(lambda: [torch.tensor([1.0, math.nan])], 0.2)
