"""How fluent a text is, by the words that follow one another in a corpus."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

START, STOP = "<s>", "</s>"

_WORDS = re.compile(r"[a-z]+|[^\sa-z]")


def words(text: str) -> list[str]:
    """Lower-case words and single signs."""
    return _WORDS.findall(text.lower())


class TrigramModel:
    """Word trigrams, backing off to pairs, of a corpus.

    Args:
        texts: The corpus.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.triples: set[tuple[str, str, str]] = set()
        self.pairs: set[tuple[str, str]] = set()
        for text in texts:
            padded = [START, START, *words(text), STOP]
            self.triples.update(zip(padded, padded[1:], padded[2:], strict=False))
            self.pairs.update(pairwise(padded))

    def fluency(self, text: str) -> float:
        """Share of the text's trigrams that the corpus has; where it has only the last pair, a third counts.

        Returns:
            A number in [0, 1]; 0 for the empty text.
        """
        padded = [START, START, *words(text), STOP]
        if len(padded) == 3:
            return 0.0
        triples = list(zip(padded, padded[1:], padded[2:], strict=False))
        known = sum(1.0 if t in self.triples else (1 / 3 if t[1:] in self.pairs else 0.0) for t in triples)
        return known / len(triples)
