"""Curated rows on disk, found again by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, ClassVar

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.base import EMBEDDED, Row, Source, Split, unusable
from omnithink_pl.sources.curation import (
    Candidate,
    Check,
    Curation,
    OverlapIndex,
    Report,
    Track,
    all_usable,
    by_category,
    draw,
    held_out,
    words,
)
from omnithink_pl.sources.files import DataFiles, find_files, local_version
from omnithink_pl.sources.hub import Unreachable, is_commit

if TYPE_CHECKING:
    from omnithink_pl.types import Example


VERSION = 1
"""Of the filters that all sources share; raised when they keep other rows than before."""

_REPORT = "report.json"


class CuratedCache:
    """The directory of one curated data set; it is there as a whole or not at all.

    Its name is made from everything that the rows depend on, the state of local files included. What a branch of
    the hub points to is not asked each time, so that training starts without a network: see ``moved``.

    Args:
        name: Of the source's class.
        version: Of the source's filters.
        path: Of the data.
        revision: Of a hub id.
        config: Of the data set.
        curation: The settings.
    """

    def __init__(
        self, name: str, version: int, path: str, revision: str | None, config: str | None, curation: Curation
    ) -> None:
        self.revision = revision
        self.local = local_version(path)
        settings = asdict(curation)
        base = settings.pop("cache")
        marks = [local_version(benchmark.path) for benchmark in curation.decontaminate]
        key = json.dumps([name, VERSION, version, path, revision, config, self.local, settings, marks])
        self.directory = _base(base) / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def report(self) -> Report | None:
        """What became of the rows; ``None`` if they are not here."""
        file = self.directory / _REPORT
        return Report(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def rows(self, split: Split) -> list[Row]:
        """The rows of a split. Not through ``datasets``, whose import alone takes longer than reading them."""
        from pyarrow.parquet import read_table

        file = self.directory / f"{split}.parquet"
        return list(read_table(file).to_pylist()) if file.is_file() else []

    def moved(self, known: Report, files: Callable[[], DataFiles]) -> bool:
        """Whether the hub's revision is another commit by now; not known, so no, without a network.

        Args:
            known: The report of what is here.
            files: Looks for the data.
        """
        if self.local or is_commit(self.revision):
            return False
        try:
            return files().version != known.version
        except Unreachable:
            return False

    def write(self, rows: Mapping[Split, list[Row]], report: Report) -> Report:
        """Keep curated rows; a process that is killed meanwhile, or does the same, does no harm."""
        from datasets import Dataset

        self.directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix="unfinished-", dir=self.directory.parent))
        try:
            for split, found in rows.items():
                if found:
                    Dataset.from_list(found).to_parquet(str(scratch / f"{split}.parquet"))
            (scratch / _REPORT).write_text(json.dumps(asdict(report), ensure_ascii=False), encoding="utf-8")
            there = self.report()
            if there is not None and there.version == report.version:
                return there  # another process was first
            if there is not None:
                shutil.rmtree(self.directory)
            scratch.rename(self.directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return report


def _base(given: str | None) -> Path:
    if given is not None:
        return Path(given).expanduser()
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(home).expanduser() / "omnithink"


class Pipeline:
    """Applies a source's filters, then those of its curation, then draws.

    Args:
        source: Says what its rows are.
        files: Where the rows are.
        track: Shows progress through a sequence.
    """

    def __init__(self, source: CuratedSource, files: DataFiles, track: Track) -> None:
        self.source = source
        self.settings = source.curation
        self.files = files
        self.track = track
        self.report = Report(source.label, files.version)
        self.overlap = OverlapIndex(self.settings.decontaminate)
        self._seen: set[str] = set()
        self._uids: set[str] = set()

    def run(self) -> tuple[dict[Split, list[Row]], Report]:
        """The rows of both splits, in the order of the data, and what became of the others."""
        settings, proportional = self.settings, self.source.proportional
        if "test" in self.files.splits:  # first, so that a training row which repeats one of these is dropped
            test = self._draw("test", self._filter("test"), settings.held_out)
            train = self._draw("train", self._filter("train"), settings.rows)
        else:
            sound = self._filter("train")
            both = self._draw("train", sound, None if settings.rows is None else settings.rows + settings.held_out)
            out = held_out(both, settings.held_out, settings.seed, proportional)
            test = [candidate for candidate in both if candidate.uid in out]
            rest = [candidate for candidate in both if candidate.uid not in out]
            limit = len(rest) if settings.rows is None else settings.rows
            train, _ = draw(rest, limit, settings.seed, proportional, all_usable, self.track)
        self.report.rows = {"train": len(train), "test": len(test)}
        self.report.categories = by_category(train)
        return {"train": [found.row for found in train], "test": [found.row for found in test]}, self.report

    def _filter(self, split: str) -> list[Candidate]:
        """The rows of a split that pass every filter."""
        table = self.files.read(split, self.source.columns)
        rows: list[tuple[int, Row]] = [(i, dict(row)) for i, row in enumerate(self.track(table, f"{split}: reading"))]
        for name, wanted in self.source.selection().items():
            before, rows = len(rows), [(index, row) for index, row in rows if wanted(row)]
            self.report.note(split, name, before, len(rows))
        left = self._sound(split, rows)
        left = self._drop(split, "repeated prompt", left, self._repeated, named=False)
        if self.settings.max_prompt_tokens is not None:
            left = self._drop(split, "prompt too long", left, self._too_long(self.settings.max_prompt_tokens))
        if self.settings.decontaminate:
            left = self._drop(split, "in a benchmark", left, self._contained)
        return left

    def _sound(self, split: str, rows: Sequence[tuple[int, Row]]) -> list[Candidate]:
        """Drop rows without a usable reference, or refuse them."""
        source, sound, bad = self.source, list[Candidate](), list[tuple[Candidate, str]]()
        for index, row in rows:
            defect = source.defect(row)
            if defect and self.settings.bad_rows == "raise":
                raise self._refusal(index, source.uid(row), *defect)
            question = "" if defect else source.question(row)
            candidate = Candidate(index, source.uid(row), row, question, source.category(row))
            if defect:
                bad.append((candidate, ": ".join(defect)))
            else:
                sound.append(candidate)
        self.report.note(split, "no usable reference", len(rows), len(sound), bad)
        return sound

    def _drop(
        self,
        split: str,
        name: str,
        rows: Sequence[Candidate],
        reason: Callable[[Candidate], str | None],
        named: bool = True,
    ) -> list[Candidate]:
        """Drop the rows for which there is a reason."""
        found = [(candidate, reason(candidate)) for candidate in self.track(rows, f"{split}: {name}")]
        left = [candidate for candidate, why in found if why is None]
        dropped = [(candidate, why) for candidate, why in found if why is not None] if named else []
        self.report.note(split, name, len(rows), len(left), dropped)
        return left

    def _repeated(self, candidate: Candidate) -> str | None:
        asked = self.source.identity(candidate.row)
        text = " ".join(words(asked)) or asked
        if text in self._seen or candidate.uid in self._uids:
            return "seen before"
        self._seen.add(text)
        self._uids.add(candidate.uid)
        return None

    def _too_long(self, limit: int) -> Callable[[Candidate], str | None]:
        name = self.settings.tokenizer
        if name is None:
            raise BadInput(
                f"{self.source.label}: curation.max_prompt_tokens needs curation.tokenizer; name the policy there"
            )
        from omnithink_pl.model.policy import load_tokenizer

        tokenizer = load_tokenizer(name, "curation.tokenizer")

        def reason(candidate: Candidate) -> str | None:
            length = len(tokenizer.encode(candidate.question, add_special_tokens=False))
            return f"{length} tokens" if length > limit else None

        return reason

    def _contained(self, candidate: Candidate) -> str | None:
        found = self.overlap.find(candidate.question)
        return None if found is None else f"{found[0]}: {found[1]}"

    def _draw(self, split: str, rows: Sequence[Candidate], count: int | None) -> list[Candidate]:
        limit = len(rows) if count is None else count
        settings, source = self.settings, self.source
        with source.checking() as check:
            kept, refused = draw(rows, limit, settings.seed, source.proportional, check, self.track)
        if refused and settings.bad_rows == "raise":
            bad, why = refused[0]
            raise self._refusal(bad.index, bad.uid, "answer", f"{why}; correct or drop the row")
        if source.verified:
            self.report.note(split, "reference not verifiable", len(rows), len(rows) - len(refused), refused)
        self.report.note(split, "not drawn", len(rows) - len(refused), len(kept))
        return kept

    def _refusal(self, index: int, uid: str, column: str, cure: str) -> BadInput:
        return unusable(self.source.label, index, uid, column, f"{cure}, or set curation.bad_rows to drop")


def untracked(items: Sequence[Any], _: str) -> Sequence[Any]:
    """No display of progress."""
    return items


class CuratedSource(Source):
    """A data set whose rows pass named filters; subclasses say which, and what an example of theirs is.

    Args:
        path: ``embedded``; a ``.jsonl``, ``.json`` or ``.parquet`` file; a directory in the shape of a repository
            on the hub; or a hub id.
        revision: Of a hub id: commit, tag or branch. Only a commit makes sure that the rows never change.
        config: Of several configurations of the data set, the one wanted.
        curation: What is kept of it; the embedded rows are all kept.
    """

    columns: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1  # raised when other rows are kept than before: what was cached then counts no more
    proportional: ClassVar[bool] = False  # whether each category keeps its share in the draw
    verified: ClassVar[bool] = False  # whether ``checking`` checks anything

    def __init__(
        self,
        path: str = EMBEDDED,
        revision: str | None = None,
        config: str | None = None,
        curation: Curation = Curation(),  # noqa: B008  (frozen)
    ) -> None:
        self.path = path
        self.revision = revision
        self.config = config
        self.curation = curation
        self.label = f"{type(self).__name__}({path})"

    @abstractmethod
    def embedded_rows(self, split: Split) -> list[Row]:
        """Miniature rows of the same schema."""

    @abstractmethod
    def uid(self, row: Row) -> str:
        """The identity of a row."""

    @abstractmethod
    def question(self, row: Row) -> str:
        """The prompt of a row, before any template."""

    @abstractmethod
    def identity(self, row: Row) -> str:
        """The whole of what is asked: two rows with the same are one row twice."""

    @abstractmethod
    def category(self, row: Row) -> str:
        """What a row is about."""

    @abstractmethod
    def selection(self) -> Mapping[str, Callable[[Row], bool]]:
        """Which rows are wanted at all: filters by the name of what they drop; each says whether a row is kept."""

    @abstractmethod
    def defect(self, row: Row) -> tuple[str, str] | None:
        """Column and cure of a row without a usable reference; ``None`` if it has one."""

    @abstractmethod
    def checking(self) -> AbstractContextManager[Check]:
        """A check too slow for all rows, made of those that are drawn, and what it needs while it lasts."""

    @abstractmethod
    def example(self, task: str, row: Row) -> Example:
        """The example that a row is."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Every example of a split: from the cache, or curated now.

        Raises:
            BadInput: If the data cannot be had, or a row has no usable reference and is not to be dropped.
        """
        if self.path == EMBEDDED:
            return [self.example(task, row) for row in self.embedded_rows(split)]
        self.prepare()
        return [self.example(task, row) for row in self.cache.rows(split)]

    @property
    def cache(self) -> CuratedCache:
        """Where the curated rows are, or will be."""
        return CuratedCache(type(self).__name__, self.version, self.path, self.revision, self.config, self.curation)

    def prepare(self, track: Track = untracked, refresh: bool = False) -> Report | None:
        """Download and curate, unless that was done before.

        Args:
            track: Shows progress through a sequence.
            refresh: See whether the hub has other data by now under the same revision, and take that.

        Returns:
            What became of the rows; ``None`` for the embedded ones.
        """
        if self.path == EMBEDDED:
            return None
        known = self.report()
        if known is not None and not (refresh and self.cache.moved(known, self._files)):
            return known
        return self.cache.write(*Pipeline(self, self._files(), track).run())

    def report(self) -> Report | None:
        """What became of the rows; ``None`` for the embedded ones, and for rows that are not curated yet."""
        return None if self.path == EMBEDDED else self.cache.report()

    def _files(self) -> DataFiles:
        return find_files(self.label, self.path, self.revision, self.config)
