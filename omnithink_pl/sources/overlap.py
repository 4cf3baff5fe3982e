"""Training prompts that occur in a benchmark."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from omnithink_pl.sources.files import DataFiles, find_files

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
