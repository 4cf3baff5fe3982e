"""Which procedurally made problems are for training and which are held out."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split

HELD_OUT_SHARE = 5
"""One key in so many is held out."""

ROWS: dict[Split, int] = {"train": 640, "test": 256}
"""Rows of each split of an embedded data set."""


class Keyed(Protocol):
    """A problem that knows its identity."""

    @property
    def key(self) -> str:
        """Equal for two problems exactly when they ask the same."""
        ...


Problem = TypeVar("Problem", bound=Keyed)


def split_of(key: str) -> Split:
    """The split that a problem belongs to, whoever draws it and with whatever seed."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest) % HELD_OUT_SHARE == 0 else "train"


def uid_of(key: str) -> str:
    """A short stable identity for a row."""
    return blake2b(key.encode(), digest_size=6).hexdigest()


def distinct(draw: Callable[[random.Random], Problem], split: Split, seed: int, count: int) -> list[Problem]:
    """Draw ``count`` different problems that belong to a split.

    Args:
        draw: Makes one problem from a generator.
        split: Problems whose key belongs to the other split are thrown away.
        seed: Of the generator.
        count: How many; must be well below the number of problems that exist.
    """
    rng = random.Random(f"{split}:{seed}")
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = draw(rng)
        if split_of(problem.key) == split:
            found.setdefault(problem.key, problem)
    return list(found.values())
