"""The outer form of a demonstration: think, then answer, now and then with a slip."""

from __future__ import annotations

import random
from dataclasses import dataclass

SLIPS = 0.06
"""Share of demonstrations that break the form."""


@dataclass(frozen=True)
class Demonstration:
    """A user message and an assistant's reply to imitate."""

    prompt: str
    completion: str


def wrap(think: str, answer: str, rng: random.Random, slips: bool) -> str:
    """Put thinking and answer between their tags.

    Args:
        think: What goes between the think tags.
        answer: What goes between the answer tags.
        rng: Draws whether, and how, the form is broken.
        slips: Whether it may be broken at all.
    """
    if not slips or rng.random() >= SLIPS:
        return f"<think>{think}</think><answer>{answer}</answer>"
    return rng.choice(
        (
            f"{think}<answer>{answer}</answer>",
            f"<think>{think}<answer>{answer}</answer>",
            f"<think>{think}</think>{answer}",
            f"<think>{think}</think><answer>{answer}",
        )
    )
