"""The words that embedded problems and stories are made of."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split


PEOPLE = {
    "Mia": "She",
    "Tom": "He",
    "Ana": "She",
    "Ben": "He",
    "Zoe": "She",
    "Sam": "He",
    "Eva": "She",
    "Max": "He",
}
"""Name to pronoun."""

NOUNS = {
    "lamp": ("lit the lamp", "polished the lamp"),
    "river": ("crossed the river", "swam in the river"),
    "bread": ("baked the bread", "sliced the bread"),
    "letter": ("wrote the letter", "sealed the letter"),
    "boat": ("rowed the boat", "steered the boat"),
    "song": ("sang the song", "hummed the song"),
    "garden": ("watered the garden", "weeded the garden"),
    "key": ("turned the key", "hid the key"),
    "horse": ("rode the horse", "fed the horse"),
    "tower": ("climbed the tower", "guarded the tower"),
    "soup": ("cooked the soup", "stirred the soup"),
    "door": ("opened the door", "locked the door"),
    "map": ("read the map", "drew the map"),
    "forest": ("entered the forest", "left the forest"),
    "coat": ("wore the coat", "mended the coat"),
    "drum": ("beat the drum", "played the drum"),
    "ladder": ("went up the ladder", "came down the ladder"),
    "kite": ("flew the kite", "chased the kite"),
    "clock": ("wound the clock", "repaired the clock"),
    "bridge": ("walked over the bridge", "hid under the bridge"),
}
"""Noun to what one does with it, and with little else: using a word means using it fittingly."""

BLAND = ("saw the", "had the", "found the")
"""What one can do with anything."""

MOODS = {
    "happy": ("with a big smile", "full of joy", "laughing loudly", "in bright sunshine"),
    "sad": ("with a heavy heart", "full of sorrow", "crying softly", "in grey rain"),
    "scary": ("with trembling hands", "full of fear", "looking back", "in deep darkness"),
    "angry": ("with clenched fists", "full of rage", "shouting wildly", "in red fury"),
    "calm": ("with a slow breath", "full of peace", "taking time", "in soft silence"),
}
"""Mood to the phrases that express it."""

OPENERS = (
    ("One day", "Once", "That morning"),
    ("Then", "Later", "Soon"),
    ("At last", "Finally", "In the end"),
)
"""How the first, second and third sentence may begin."""


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
