"""Miniature stories: requests, faithful stories, and stories with a chosen flaw."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal, final

from omnithink_pl.embedded.problems import PEOPLE, distinct
from omnithink_pl.sources.base import Source, Split, text_uid
from omnithink_pl.types import Example

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
"""Noun to the actions that fit it and hardly any other: using a word means using it in one of them."""

BLAND = ("saw the", "had the", "found the")
"""Actions that fit any noun."""

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
"""Beginnings of the first, second and third sentence."""

Flaw = Literal["none", "bare", "bland", "short", "wrong mood"]

REFERENCE_FLAWS: dict[Flaw, float] = {"none": 0.3, "bare": 0.3, "bland": 0.25, "short": 0.15}
"""Shares of references with each flaw: as in a real data set most are imperfect, so that a good story often wins."""

_REQUEST = re.compile(r"Write three sentences about (\w+), using (\w+), (\w+) and (\w+)\. The mood is (\w+)\.")


@dataclass(frozen=True)
class WritingProblem:
    """Three sentences about a hero, using three given words, in a given mood."""

    hero: str
    words: tuple[str, str, str]
    mood: str

    @property
    def key(self) -> str:
        """The words, in any order, with the mood; another hero makes no other problem."""
        return f"{sorted(self.words)} {self.mood}"

    @property
    def question(self) -> str:
        """The request."""
        first, second, third = self.words
        return f"Write three sentences about {self.hero}, using {first}, {second} and {third}. The mood is {self.mood}."

    @classmethod
    def parse(cls, text: str) -> WritingProblem | None:
        """Return the problem that a prompt asks, or None where it is not an embedded one."""
        match = _REQUEST.search(text)
        if match is None:
            return None
        hero, first, second, third, mood = match.groups()
        return cls(hero, (first, second, third), mood)


def draw(rng: random.Random) -> WritingProblem:
    """Draw a problem."""
    first, second, third = rng.sample(tuple(NOUNS), 3)
    return WritingProblem(rng.choice(tuple(PEOPLE)), (first, second, third), rng.choice(tuple(MOODS)))


def write_story(problem: WritingProblem, rng: random.Random, flaw: Flaw = "none") -> str:
    """Write a story that answers the problem: openers, actions and the sentences that express the mood are drawn.

    As its flaw it is ``bare`` and expresses no mood, ``bland`` and uses two words in no fitting way, ``short`` and
    stops a sentence early, or expresses the ``wrong mood``.
    """
    mood = problem.mood
    if flaw == "wrong mood":
        mood = rng.choice([other for other in MOODS if other != mood])
    words = problem.words[:2] if flaw == "short" else problem.words
    moods = rng.sample(MOODS[mood], 3)
    plain = rng.randrange(3)
    bland = rng.sample(range(3), 2) if flaw == "bland" else []
    sentences = []
    for index, word in enumerate(words):
        who = problem.hero if index == 0 else PEOPLE[problem.hero].lower()
        does = f"{rng.choice(BLAND)} {word}" if index in bland else rng.choice(NOUNS[word])
        feels = "" if index == plain or flaw == "bare" else f" {moods[index]}"
        sentences.append(f"{rng.choice(OPENERS[index])} {who} {does}{feels}.")
    return " ".join(sentences)


def reference(problem: WritingProblem) -> str:
    """Write the reference of a problem, the same each time; most have a flaw."""
    rng = random.Random(problem.question)
    flaw = rng.choices(tuple(REFERENCE_FLAWS), tuple(REFERENCE_FLAWS.values()))[0]
    return write_story(problem, rng, flaw)


@final
class EmbeddedWriting(Source):
    """Requests for miniature stories. The two splits share words and moods, but no three words with a mood."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return the same requests and references each time."""
        return [
            Example(task, text_uid(problem.question), problem.question, reference(problem))
            for problem in distinct(draw, split)
        ]
