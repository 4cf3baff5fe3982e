"""The closed world that embedded questions are about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """Facts of one kind; the answers of its other facts are a question's wrong options.

    Args:
        discipline: As SuperGPQA would file it.
        phrasings: Ways of asking; ``{0}`` is the subject.
        statement: The fact as a sentence; ``{0}`` is the subject, ``{1}`` the answer.
        known: Subject to answer: facts that the warm start teaches.
        left_out: Facts that the warm start shows with random answers only.
    """

    discipline: str
    phrasings: tuple[str, ...]
    statement: str
    known: dict[str, str]
    left_out: dict[str, str]

    @property
    def facts(self) -> dict[str, str]:
        """Every fact, known or left out."""
        return self.known | self.left_out


CAPITALS = Kind(
    "Geography",
    ("What is the capital of {0}?", "Which city is the capital of {0}?"),
    "The capital of {0} is {1}.",
    {
        "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
        "Egypt": "Cairo", "Greece": "Athens", "Russia": "Moscow", "Cuba": "Havana", "Austria": "Vienna",
        "Poland": "Warsaw", "Norway": "Oslo", "Kenya": "Nairobi", "India": "Delhi", "Iran": "Tehran",
        "Canada": "Ottawa",
    },
    {"Peru": "Lima", "Chile": "Santiago", "Ghana": "Accra", "Qatar": "Doha"},
)  # fmt: skip

SYMBOLS = Kind(
    "Chemistry",
    ("What is the symbol of {0}?", "Which symbol stands for {0}?"),
    "The symbol of {0} is {1}.",
    {
        "iron": "Fe", "gold": "Au", "silver": "Ag", "lead": "Pb", "tin": "Sn", "copper": "Cu",
        "sodium": "Na", "carbon": "C", "oxygen": "O", "helium": "He", "neon": "Ne", "zinc": "Zn",
        "sulfur": "S", "nickel": "Ni",
    },
    {"potassium": "K", "mercury": "Hg", "tungsten": "W", "calcium": "Ca"},
)  # fmt: skip

YOUNG = Kind(
    "Biology",
    ("What is a young {0} called?", "What do we call a young {0}?"),
    "A young {0} is a {1}.",
    {
        "dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "goat": "kid",
        "bear": "cub", "duck": "duckling", "hen": "chick", "pig": "piglet", "deer": "fawn", "frog": "tadpole",
    },
    {"swan": "cygnet", "hare": "leveret", "owl": "owlet", "goose": "gosling"},
)  # fmt: skip

KINDS = (CAPITALS, SYMBOLS, YOUNG)
