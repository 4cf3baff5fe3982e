"""Which rows of a data set are used: settings, named filters, and the counts they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from omnithink_pl.sources.overlap import Benchmark

Track = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Curation:
    """What is kept of a data set. Settings and data give the same rows in every run, whatever the run's seed.

    Args:
        rows: Training rows to draw; all that are left, if not given or if there are fewer.
        held_out: Rows held out of training where the data has no test split; at most a fifth of all. Of a test
            split, so many are drawn.
        seed: Of the draw. Not the run's: runs with different seeds train on the same rows.
        bad_rows: What happens to a row without a usable reference: ``raise`` names it and stops, ``drop`` counts it.
        max_prompt_tokens: Longer questions are dropped.
        tokenizer: That counts them: ``embedded``, a directory or a hub id; the policy's.
        decontaminate: Benchmarks. A row that shares 13 words in a row with a prompt of theirs is dropped.
        cache: Where curated rows are kept; ``omnithink`` in Hugging Face's home directory (``HF_HOME``) if not given.
    """

    rows: int | None = None
    held_out: int = 256
    seed: int = 0
    bad_rows: Literal["raise", "drop"] = "raise"
    max_prompt_tokens: int | None = None
    tokenizer: str | None = None
    decontaminate: list[Benchmark] = field(default_factory=list)
    cache: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A row on its way through the filters.

    Args:
        index: Of the row in its split.
        uid: Its identity.
        row: Its columns.
        question: Its prompt, before any template.
        category: What it is about.
    """

    index: int
    uid: str
    row: dict[str, Any]
    question: str
    category: str


Dropped = Sequence[tuple[Candidate, str]]


@dataclass
class Report:
    """What became of the rows of a data set.

    Args:
        source: Class and path.
        version: Of the data: a commit of the hub, or a mark of local files.
        steps: Name of each filter, with the rows before and after it, for each split of the data.
        dropped: Rows without a usable reference or in a benchmark: split, row, uid, filter, and why.
        rows: How many are in use, by split.
        categories: How many training rows of each category.
    """

    source: str
    version: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)

    def note(self, split: str, name: str, before: int, after: int, dropped: Dropped = ()) -> None:
        """Write down what a filter did.

        Args:
            split: Of the data.
            name: Of the filter.
            before: Rows before it.
            after: Rows after it.
            dropped: Those worth naming, with the reason.
        """
        self.steps.append({"split": split, "filter": name, "before": before, "after": after})
        self.dropped += [
            {"split": split, "row": gone.index, "uid": gone.uid, "filter": name, "why": why} for gone, why in dropped
        ]
