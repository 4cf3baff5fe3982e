"""What the four embedded tasks share: drawing distinct problems, their split, and the names of people."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol, TypeVar

from omnithink_pl.sources.base import Split

ROWS: dict[Split, int] = {"train": 640, "test": 256}
"""Examples of each split of an embedded data set."""

HELD_OUT_ONE_IN = 5
"""One key in so many is held out."""

PEOPLE = {"Mia": "She", "Tom": "He", "Ana": "She", "Ben": "He", "Zoe": "She", "Sam": "He", "Eva": "She", "Max": "He"}
"""Name to pronoun."""


class Keyed(Protocol):
    """A problem that knows its identity."""

    @property
    def key(self) -> str:
        """Text that two problems share exactly when they ask the same."""


Problem = TypeVar("Problem", bound=Keyed)


def split_of(key: str) -> Split:
    """Return the split that a problem belongs to, whoever draws it and with whatever seed."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest) % HELD_OUT_ONE_IN == 0 else "train"


def distinct(
    draw: Callable[[random.Random], Problem], split: Split, seed: int = 0, count: int | None = None
) -> list[Problem]:
    """Draw ``count`` different problems that belong to a split, by default as many as the embedded data set has.

    There must be many more. Problems whose key belongs to the other split are thrown away.
    """
    count = ROWS[split] if count is None else count
    rng = random.Random(f"{split}:{seed}")
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = draw(rng)
        if split_of(problem.key) == split:
            found.setdefault(problem.key, problem)
    return list(found.values())
