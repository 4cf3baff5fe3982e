"""Scores made by hand, for tests."""

from __future__ import annotations

from omnithink_pl.types import Component, Outcome, Score


def score(primary: float | Outcome, *, layout: float | Outcome = 1.0, tags: float | Outcome = 1.0) -> Score:
    """A score as the rubric makes it: the primary reward, then format and tags at weight 0.1."""
    parts = {"primary": (1.0, primary), "format": (0.1, layout), "tags": (0.1, tags)}
    return Score(
        tuple(
            Component(name, weight, value if isinstance(value, Outcome) else Outcome.of(value))
            for name, (weight, value) in parts.items()
        )
    )


FAILED = Outcome.failed("judge unreachable")
UNDEFINED = Outcome.undefined("no answer segment")
