"""When a stage has stopped getting better. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence


def best_place(scores: Sequence[float], min_delta: float = 0.0) -> int:
    """The place of the best score: the first that no later one exceeds by more than ``min_delta``.

    Args:
        scores: Validation scores of a stage in their order, at least one.
        min_delta: What counts as better.
    """
    best = 0
    for place, score in enumerate(scores):
        if score > scores[best] + min_delta:
            best = place
    return best


def has_plateaued(scores: Sequence[float], patience: int, min_delta: float = 0.0) -> bool:
    """Whether the last ``patience`` scores brought nothing better.

    Args:
        scores: As above.
        patience: Validations without a better score that are waited for.
        min_delta: What counts as better.
    """
    return bool(scores) and len(scores) - 1 - best_place(scores, min_delta) >= patience
