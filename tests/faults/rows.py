"""Miniature problems whose answers only a verifier can judge."""

from __future__ import annotations

from dataclasses import replace

from omnithink_pl.embedded import EmbeddedMath
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.types import Example


class RootMath(Source):
    """The embedded problems, with the gold as a root: no rule decides about it, so that the verifier is asked."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return every example of a split."""
        return [replace(one, reference=_root(one.reference)) for one in EmbeddedMath().examples(task, split)]


def _root(reference: object) -> str:
    return f"\\sqrt{{{int(str(reference)) ** 2}}}"
