"""Miniature creative writing in the schema of Creative_Writing-ShareGPT."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from omnithink_pl.embedded.partition import ROWS, distinct
from omnithink_pl.embedded.story import Flaw, WritingProblem, draw, tell

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split

REFERENCE_FLAWS: dict[Flaw, float] = {"none": 0.3, "bare": 0.3, "bland": 0.25, "short": 0.15}
"""How good references are: as in a real data set, most leave something to be desired, so that a
good story wins against many of them."""


def rows(split: Split, seed: int = 0, count: int | None = None) -> list[dict[str, Any]]:
    """Rows with the column of Creative_Writing-ShareGPT.

    Args:
        split: The two splits share words and moods, but no three words with a mood.
        seed: Another seed draws other rows of the same split.
        count: How many; by default as many as the embedded data set has.
    """
    return [_row(problem) for problem in distinct(draw, split, seed, count or ROWS[split])]


def _row(problem: WritingProblem) -> dict[str, Any]:
    rng = random.Random(problem.question)
    flaw = rng.choices(tuple(REFERENCE_FLAWS), tuple(REFERENCE_FLAWS.values()))[0]
    return {
        "conversations": [
            {"from": "human", "value": problem.question},
            {"from": "gpt", "value": tell(problem, rng, flaw)},
        ]
    }
