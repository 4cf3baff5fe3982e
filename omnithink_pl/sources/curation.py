"""Which rows of a data set are used: settings, named filters, and the counts they leave."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from omnithink_pl.sources.files import DataFiles, find_files

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


CHECKED_AT_ONCE = 256
HELD_OUT_SHARE = 5

Check = Callable[[Sequence[Candidate]], Sequence[str | None]]
Refused = list[tuple[Candidate, str]]


def draw(
    candidates: Sequence[Candidate], count: int, seed: int, proportional: bool, check: Check, track: Track
) -> tuple[list[Candidate], Refused]:
    """Draw rows, checking no more of them than needed, for a check may be slow.

    Args:
        candidates: To draw from.
        count: How many; all, if there are fewer.
        seed: Of the draw.
        proportional: Each category keeps its share.
        check: Says for each row why it cannot be used; ``None`` where it can.
        track: Shows progress.

    Returns:
        The rows drawn, in the order of the data set, and those that the check refused on the way.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: rank(seed, candidate.uid)):
        groups.setdefault(candidate.category if proportional else "", []).append(candidate)
    quotas = shares({name: len(group) for name, group in groups.items()}, count)
    kept: list[Candidate] = []
    refused: Refused = []
    for name, group in groups.items():
        good, bad = _first_usable(group, quotas[name], check, track)
        kept, refused = kept + good, refused + bad
    return sorted(kept, key=lambda candidate: candidate.index), refused


def _first_usable(
    group: Sequence[Candidate], count: int, check: Check, track: Track
) -> tuple[list[Candidate], Refused]:
    good: list[Candidate] = []
    bad: Refused = []
    for start in track(range(0, len(group), CHECKED_AT_ONCE), "checking references"):
        if len(good) >= count:
            break
        chunk = group[start : start + CHECKED_AT_ONCE]
        for candidate, why in zip(chunk, check(chunk), strict=True):
            if why is None:
                good.append(candidate)
            else:
                bad.append((candidate, why))
    return good[:count], bad


def held_out(candidates: Sequence[Candidate], count: int, seed: int, proportional: bool) -> set[str]:
    """Which rows are held out: at most ``count`` of them, and at most a fifth."""
    count = min(count, len(candidates) // HELD_OUT_SHARE)
    chosen, _ = draw(candidates, count, seed, proportional, all_usable, lambda items, _: items)
    return {candidate.uid for candidate in chosen}


def all_usable(candidates: Sequence[Candidate]) -> list[str | None]:
    """The check of references that need none."""
    return [None] * len(candidates)


def rank(seed: int, uid: str) -> bytes:
    """Where a row stands in a draw: a function of seed and row alone, so that other rows do not matter."""
    return blake2b(f"{seed}:{uid}".encode(), digest_size=8).digest()


def shares(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide ``count`` in proportion to sizes, by largest remainder; never more than there is."""
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    exact = {name: count * size / total for name, size in sizes.items()}
    whole = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def by_category(candidates: Iterable[Candidate]) -> dict[str, int]:
    """How many rows there are of each category, most frequent first."""
    return dict(Counter(candidate.category for candidate in candidates).most_common())


NGRAM = 13
"""Words in a row that two prompts must share: the length that GPT-3 took (Brown et al., 2020, appendix C)."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Benchmark:
    """The prompts of a benchmark, which training must not contain.

    Args:
        path: A file, a directory or a hub id.
        column: Holds the prompt: text, a list of texts (the turns of a conversation), of which the first counts.
        split: Of the benchmark.
        revision: Of a hub id.
        config: Of several configurations, the one wanted.
    """

    path: str
    column: str = "problem"
    split: str = "test"
    revision: str | None = None
    config: str | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.path.rstrip("/").rpartition("/")[2] + (f":{self.config}" if self.config else "")

    def files(self) -> DataFiles:
        """Its files, downloaded if need be."""
        found = find_files(f"curation.decontaminate({self.path})", self.path, self.revision, self.config)
        return found.of_one_file(self.split)

    def prompts(self) -> list[str]:
        """Every prompt."""
        rows = self.files().read(self.split, (self.column,))
        return [str(value[0]) if isinstance(value, list) else str(value) for value in rows[self.column]]


class OverlapIndex:
    """Finds out whether a text shares ``NGRAM`` words in a row with a benchmark's prompt.

    Words are compared without case, punctuation and mathematical markup. A prompt of fewer words counts
    when it is the same as a whole benchmark prompt.

    Args:
        benchmarks: What to compare with.
    """

    def __init__(self, benchmarks: Iterable[Benchmark]) -> None:
        self._owner: dict[str, str] = {}
        for benchmark in benchmarks:
            for prompt in benchmark.prompts():
                for gram in ngrams(words(prompt)):
                    self._owner.setdefault(gram, benchmark.name)

    def find(self, text: str) -> tuple[str, str] | None:
        """Name of a benchmark that contains part of the text, and that part; ``None`` if there is none."""
        return next(((self._owner[gram], gram) for gram in ngrams(words(text)) if gram in self._owner), None)


def words(text: str) -> list[str]:
    """The words of a text in normal form; numbers and LaTeX commands are words, operators are not."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(found: list[str]) -> Iterator[str]:
    """Every ``NGRAM`` words in a row; a shorter text is one by itself."""
    for start in range(max(len(found) - NGRAM + 1, min(1, len(found)))):
        yield " ".join(found[start : start + NGRAM])
