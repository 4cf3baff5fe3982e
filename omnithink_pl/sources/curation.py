"""The steps that choose the rows of a data set: settings, subsampling and n-gram decontamination, with a report."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from omnithink_pl.sources.base import Row
from omnithink_pl.sources.files import find_files
from omnithink_pl.sources.reading import Place
from omnithink_pl.types import Reference

Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Shows progress through a sequence, under a description."""


@dataclass(frozen=True)
class Curation:
    """Which rows of a data set are kept. Settings and data give the same rows in every run, whatever the run's seed.

    Args:
        rows: Training rows to sample; all remaining rows if not given, or if there are fewer.
        held_out: Rows held out of training where the data has no test split, at most a fifth of all; otherwise the
            rows sampled from the test split.
        seed: Seed of the subsampling. It is not the run's: runs with different seeds train on the same rows.
        bad_rows: What happens to a row that cannot be used: ``raise`` names it and stops, ``drop`` counts and lists it.
        max_prompt_characters: Longer questions are dropped, whatever the policy's tokenizer.
        max_prompt_tokens: Longer questions are dropped.
        tokenizer: Tokenizer that counts these tokens, that is the policy's: ``embedded``, a directory or a hub id.
        decontaminate: Evaluation sets. A row that shares 13 consecutive words with one of their prompts is dropped.
        cache: Directory of curated rows; ``omnithink`` in Hugging Face's home directory (``HF_HOME``) if not given.
    """

    rows: int | None = None
    held_out: int = 256
    seed: int = 0
    bad_rows: Literal["raise", "drop"] = "raise"
    max_prompt_characters: int | None = None
    max_prompt_tokens: int | None = None
    tokenizer: str | None = None
    decontaminate: list[DecontaminationSet] = field(default_factory=list)
    cache: str | None = None


@dataclass(frozen=True)
class ParsedRow:
    """A usable row."""

    uid: str  # equal in every process and run
    question: str  # before any template
    reference: Reference  # what an answer is scored against
    category: str = ""  # stratum of the subsampling, such as a discipline
    identity: str = ""  # text that only duplicates share; the question if empty


@dataclass(frozen=True)
class Candidate:
    """A row in the pipeline."""

    index: int  # position in its split
    place: Place  # in a file
    row: Row  # its columns, as they are cached
    parsed: ParsedRow


@dataclass
class Report:
    """Counts of the rows that each filter kept."""

    source: str  # class and path
    version: str  # of the data: a commit of the hub, or a hash of local files
    steps: list[dict[str, Any]] = field(default_factory=list)  # split, filter, rows before and after it
    dropped: list[dict[str, Any]] = field(default_factory=list)  # those worth naming: split, row, uid, filter, why
    rows: dict[str, int] = field(default_factory=dict)  # curated rows of each split
    categories: dict[str, int] = field(default_factory=dict)  # training rows of each, most frequent first

    def add(self, split: str, name: str, before: int, after: int, dropped: Sequence[tuple[int, str, str]] = ()) -> None:
        """Record a filter, with index, uid and reason of each dropped row worth naming."""
        self.steps.append({"split": split, "filter": name, "before": before, "after": after})
        self.dropped += [{"split": split, "row": i, "uid": uid, "filter": name, "why": why} for i, uid, why in dropped]

    def summary(self, splits: Collection[str] = ("train", "test")) -> str:
        """Return rows and what was left out, by filter; empty if every row was kept.

        Example:
            100 rows to train on and 20 held out; left out: 8 repeated prompt, 3 not sampled
        """
        lost: Counter[str] = Counter()
        for step in self.steps:
            if step["split"] in splits:
                lost[step["filter"]] += step["before"] - step["after"]
        named = ", ".join(f"{count} {name}" for name, count in lost.items() if count)
        kept = f"{self.rows.get('train', 0)} rows to train on and {self.rows.get('test', 0)} held out"
        return f"{kept}; left out: {named}" if named else ""


CHECKED_AT_ONCE = 256
HELD_OUT_ONE_IN = 5
"""At most one row in so many is held out of data without a test split."""

Check = Callable[[Sequence[Candidate]], Sequence[str | None]]
"""Says for each row why its reference cannot be used; ``None`` where it can."""


def no_check(candidates: Sequence[Candidate]) -> list[str | None]:
    """Accept every row."""
    return [None] * len(candidates)


def no_progress(items: Sequence[Any], _: str) -> Sequence[Any]:
    """Show nothing."""
    return items


def subsample(
    candidates: Sequence[Candidate],
    count: int,
    seed: int,
    stratified: bool,
    check: Check = no_check,
    track: Track = no_progress,
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    """Sample rows without replacement; no more of them are checked than needed, for a check may be slow.

    Rows are ranked by a hash of seed and uid, so that a row's rank depends on neither the other rows nor their order.
    A row that the check rejects is replaced by the next in rank. Where ``stratified``, each category keeps its share.

    Returns:
        The sampled rows in the order of the data set, and the rows that the check rejected with its reasons.
    """
    strata: dict[str, list[Candidate]] = {}
    for candidate in sorted(
        candidates, key=lambda one: blake2b(f"{seed}:{one.parsed.uid}".encode(), digest_size=8).digest()
    ):
        strata.setdefault(candidate.parsed.category if stratified else "", []).append(candidate)
    quotas = proportional_quotas({name: len(stratum) for name, stratum in strata.items()}, count)
    kept: list[Candidate] = []
    rejected: list[tuple[Candidate, str]] = []
    for name, stratum in strata.items():
        usable: list[Candidate] = []
        for start in track(range(0, len(stratum), CHECKED_AT_ONCE), "checking references"):
            if len(usable) >= quotas[name]:
                break
            chunk = stratum[start : start + CHECKED_AT_ONCE]
            reasons = list(zip(chunk, check(chunk), strict=True))
            usable += [candidate for candidate, why in reasons if why is None]
            rejected += [(candidate, why) for candidate, why in reasons if why is not None]
        kept += usable[: quotas[name]]
    return sorted(kept, key=lambda candidate: candidate.index), rejected


def proportional_quotas(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide ``count`` among strata in proportion to their sizes, by largest remainder; at most all of each."""
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    exact = {name: count * size / total for name, size in sizes.items()}
    quotas = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


NGRAM = 13
"""Consecutive words that count as contamination: the length that GPT-3 took (Brown et al., 2020, appendix C)."""

_WORD = re.compile(r"\w+")
_WORD_OR_SIGN = re.compile(r"\w+|[-+*/^<>=]")


@dataclass(frozen=True)
class DecontaminationSet:
    """An evaluation set whose prompts must not be in the training data.

    Args:
        path: A file, a directory or a hub id.
        column: Column of the prompt: a text, or a list of texts (the turns of a conversation) whose first one counts.
        split: Split of the evaluation set.
        revision: Commit, tag or branch of a hub id.
        config: Name of a configuration, where the set has several.
    """

    path: str
    column: str = "problem"
    split: str = "test"
    revision: str | None = None
    config: str | None = None

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.path.rstrip("/").rpartition("/")[2] + (f":{self.config}" if self.config else "")

    def prompts(self) -> list[str]:
        """Read every prompt; download the set if need be."""
        files = find_files(f"curation.decontaminate({self.path})", self.path, self.revision, self.config)
        values = (row[self.column] for row in files.of_one_file(self.split).read(self.split, (self.column,)))
        first = (value[0] if isinstance(value, list) and value else value for value in values)
        return [str(value) for value in first if value is not None]


def find_contamination(sets: Iterable[DecontaminationSet]) -> Callable[[str], str | None]:
    """Return a function that names the first n-gram which a text shares with a prompt of a set, and the set.

    Words are compared without case, punctuation and mathematical markup. A prompt of fewer than ``NGRAM`` words is
    one n-gram by itself.
    """
    known: dict[str, str] = {}  # n-gram to the name of the first set that has it
    for one in sets:
        for prompt in one.prompts():
            for ngram in _ngrams(prompt):
                known.setdefault(ngram, one.name)
    return lambda text: next((f"{known[ngram]}: {ngram}" for ngram in _ngrams(text) if ngram in known), None)


def words(text: str) -> list[str]:
    """Return the normalised words of a text; numbers and LaTeX commands are words, operators are not."""
    return _WORD.findall(_folded(text))


def comparable(text: str) -> str:
    """Return a text without case, punctuation and spacing, as copies of a row share it; ``a+b`` is not ``a-b``."""
    return " ".join(_WORD_OR_SIGN.findall(_folded(text))) or text  # other signs only, such as "?!", have no words


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _ngrams(text: str) -> Iterator[str]:
    found = words(text)
    for start in range(max(len(found) - NGRAM + 1, min(1, len(found)))):
        yield " ".join(found[start : start + NGRAM])
