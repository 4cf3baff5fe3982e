"""Data sets whose rows are curated once, cached on disk, and found again by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.base import Row, Source, Split
from omnithink_pl.sources.cells import UnusableRow
from omnithink_pl.sources.curation import (
    HELD_OUT_ONE_IN,
    Candidate,
    Check,
    Curation,
    ParsedRow,
    Report,
    Track,
    comparable,
    find_contamination,
    no_check,
    no_progress,
    subsample,
)
from omnithink_pl.sources.files import DataFiles, Unreachable, find_files, local_version
from omnithink_pl.sources.reading import Found, Place
from omnithink_pl.types import Example

VERSION = 3
"""Version of the filters that all sources share; raise it when they keep other rows, so that old caches are ignored."""

_REPORT = "report.json"
_REMOVE = "rows are curated anew if you remove"


class CuratedSource(Source):
    """A data set whose rows are filtered, decontaminated, subsampled and cached.

    A subclass states its columns and filters in class variables, and parses a row.

    Args:
        path: A ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` file; a directory in the shape of a repository on the
            hub; or a hub id.
        revision: Commit, tag or branch of a hub id. Only a commit makes sure that the rows never change.
        config: Name of a configuration, where the data set has several.
        curation: Which rows are kept.
    """

    columns: tuple[str, ...]
    id_column: str | None = None
    """Column that tells rows apart, where there is one: to name a row that cannot be used."""
    version: ClassVar[int] = 1
    """Version of the subclass's filters; see ``VERSION``."""
    filters: ClassVar[Mapping[str, Callable[[Row], bool]]] = {}
    """Tells which rows are wanted at all, by the name of what is dropped."""
    train_split: ClassVar[str] = "train"
    """Name of the training split on the hub."""
    official_test: ClassVar[tuple[str, Collection[Any]] | None] = None
    """Column, and its values in official test rows, for data that is not divided into splits."""
    stratified: bool = False
    """Whether each category keeps its share when rows are sampled."""
    verifier: ClassVar[Callable[[], AbstractContextManager[Check]] | None] = None
    """A check of references that is too slow for all rows: only sampled ones are checked."""

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        config: str | None = None,
        curation: Curation = Curation(),  # noqa: B008  (frozen)
    ) -> None:
        self.label = f"{type(self).__name__}({path})"
        if path == "embedded":
            raise BadInput(
                f"{self.label}: the embedded rows are sources of their own; set class_path to "
                f"omnithink_pl.embedded.EmbeddedCode, EmbeddedMath, EmbeddedQA or EmbeddedWriting, without a path"
            )
        self.path = path
        self.revision = revision
        self.config = config
        self.curation = curation

    @property
    def parser_key(self) -> list[object]:
        """What the rows depend on besides the data and its curation."""
        return [type(self).__name__, self.version]

    @abstractmethod
    def parse(self, row: Row) -> ParsedRow:
        """Read a row that passed the filters; raises ``UnusableRow``."""

    def examples(self, task: str, split: Split) -> list[Example]:
        """Return every example of a split, from the cache if the rows were curated before."""
        self.prepare()
        rows = map(self.parse, CuratedCache(self).rows(split))
        return [Example(task, row.uid, row.question, row.reference) for row in rows]

    def prepare(self, track: Track = no_progress, refresh: bool = False) -> Report:
        """Download and curate, unless that was done before.

        With ``refresh`` the hub is asked whether the revision names another commit by now, which is curated then.
        """
        known = self.report()
        if known is not None and not (refresh and self._is_stale(known)):
            return known
        return CuratedCache(self).write(*Pipeline(self, self._files(), track).run())

    def report(self) -> Report | None:
        """Return the counts of the filters; ``None`` if the rows are not curated yet."""
        return CuratedCache(self).report()

    def _files(self) -> DataFiles:
        return find_files(self.label, self.path, self.revision, self.config)

    def _is_stale(self, known: Report) -> bool:
        """Tell whether the hub's revision names another commit by now; without a network it does not."""
        if local_version(self.path) or re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):  # never another commit
            return False
        try:
            return self._files().version != known.version
        except Unreachable:
            return False


class CuratedCache:
    """The directory of one curated data set; it is written whole or not at all.

    Its name is a hash of everything that the rows depend on, including the state of local files. The hub is not asked
    what a branch points to, so that training starts without a network.
    """

    def __init__(self, source: CuratedSource) -> None:
        settings = asdict(source.curation)
        base = settings.pop("cache") or f"{os.environ.get('HF_HOME') or '~/.cache/huggingface'}/omnithink"
        name, *parser = source.parser_key
        marks = [local_version(one.path) for one in source.curation.decontaminate]
        data = [source.path, source.revision, source.config, local_version(source.path)]
        key = json.dumps([name, VERSION, *parser, *data, settings, marks])
        self.directory = Path(base).expanduser() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def report(self) -> Report | None:
        """Read the report; ``None`` if the rows are not cached."""
        file = self.directory / _REPORT
        return Report(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def rows(self, split: Split) -> list[Row]:
        """Read the rows of a split; ``BadInput`` if they are not those that were written."""
        report, file = self.report(), self.directory / f"{split}.jsonl"
        wanted = report.rows[split] if report is not None else 0
        try:
            rows = [json.loads(line) for line in file.read_bytes().splitlines()]
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} cannot be read: {error}; {_REMOVE} {self.directory}") from error
        if len(rows) != wanted:
            raise BadInput(f"{file} has {len(rows)} rows, and {wanted} were written; {_REMOVE} {self.directory}")
        return rows

    def write(self, rows: Mapping[Split, list[Row]], report: Report) -> Report:
        """Write rows and report, safely against a kill, or return the report of a process that was first."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix="unfinished-", dir=self.directory.parent))
        try:
            for split, found in rows.items():
                # As JSON: the cells of a column may differ in type. What it has no type for, a date, is read as a text.
                lines = "".join(f"{json.dumps(row, default=str)}\n" for row in found)
                (scratch / f"{split}.jsonl").write_text(lines, encoding="utf-8")
            (scratch / _REPORT).write_text(json.dumps(asdict(report), ensure_ascii=False), encoding="utf-8")
            present = self.report()
            if present is not None and present.version == report.version:
                return present
            if present is not None:
                shutil.rmtree(self.directory)
            scratch.rename(self.directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return report


class Pipeline:
    """Applies the filters of a source and of its curation, then samples."""

    def __init__(self, source: CuratedSource, files: DataFiles, track: Track) -> None:
        self.source = source
        self.settings = source.curation
        self.files = files
        self.track = track
        self.report = Report(source.label, files.version)
        self._contaminated = find_contamination(self.settings.decontaminate)
        self._identities: set[str] = set()  # of both splits: a prompt that is held out is not trained on

    def run(self) -> tuple[dict[Split, list[Row]], Report]:
        """Return the curated rows of both splits, in the order of the data, and the report."""
        settings, named = self.settings, self.source.train_split
        split = named if named in self.files.splits else "train"
        if "test" in self.files.splits:  # first, so that a training row which repeats one of these is dropped
            test = self._sample("test", self._filter("test"), settings.held_out)
            train = self._sample("train", self._filter(split), settings.rows)
        else:
            train, test = self._divide(self._filter(split))
        self.report.rows = {"train": len(train), "test": len(test)}
        self.report.categories = dict(Counter(candidate.parsed.category for candidate in train).most_common())
        return {"train": [found.row for found in train], "test": [found.row for found in test]}, self.report

    def _divide(self, rows: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Return the training and the held-out rows of data without splits: by the official ones if rows have them."""
        settings, stratified = self.settings, self.source.stratified
        column, values = self.source.official_test or ("", ())
        official = [row for row in rows if row.row.get(column) in values]
        if official and len(official) < len(rows):
            others = [row for row in rows if row.row.get(column) not in values]
            return self._sample("train", others, settings.rows), self._sample("test", official, settings.held_out)
        wanted = None if settings.rows is None else settings.rows + settings.held_out
        rows = self._sample("train", rows, wanted)
        count = min(settings.held_out, len(rows) // HELD_OUT_ONE_IN)
        test, _ = subsample(rows, count, settings.seed, stratified)
        held_out = {row.parsed.uid for row in test}
        train = [row for row in rows if row.parsed.uid not in held_out]
        if settings.rows is not None:  # fewer may be held out than were asked for
            found, (train, _) = len(train), subsample(train, settings.rows, settings.seed, stratified)
            self.report.add("train", "not sampled", found, len(train))
        return train, test

    def _filter(self, split: str) -> list[Candidate]:
        """Return the rows of a split that pass every filter."""
        found = self._parse(split, self.files.find(split, self.source.columns))
        found = self._drop(split, "repeated prompt", found, self._repeated)
        found = self._drop_namesakes(split, found)
        if self.settings.max_prompt_characters is not None:
            found = self._drop(split, "prompt too long", found, self._too_wide(self.settings.max_prompt_characters))
        if self.settings.max_prompt_tokens is not None:
            found = self._drop(split, "prompt too long", found, self._too_long(self.settings.max_prompt_tokens))
        if self.settings.decontaminate:
            found = self._drop(split, "contaminated", found, lambda row: self._contaminated(row.question))
        return found

    def _parse(self, split: str, rows: Sequence[Found]) -> list[Candidate]:
        """Drop rows that are not wanted, and drop or refuse those that cannot be used."""
        found: list[Candidate] = []
        unwanted: Counter[str] = Counter(dict.fromkeys(self.source.filters, 0))
        dropped: list[tuple[int, str, str]] = []
        for index, (place, row) in enumerate(self.track(rows, f"{split}: reading")):
            try:
                if name := next((name for name, wanted in self.source.filters.items() if not wanted(row)), None):
                    unwanted[name] += 1
                else:
                    found.append(Candidate(index, place, row, self.source.parse(row)))
            except UnusableRow as why:
                uid = self._uid(row)
                self._refuse(index, place, uid, why)
                dropped.append((index, uid, f"{place}: {why.column}: {why.cure}"))
        left = len(rows)
        for name, count in unwanted.items():
            self.report.add(split, name, left, left - count)
            left -= count
        self.report.add(split, "no usable reference", left, len(found), dropped)
        return found

    def _drop_namesakes(self, split: str, rows: Sequence[Candidate]) -> list[Candidate]:
        """Keep the first of several rows with one id and different prompts, or refuse them; ids are a split's own."""
        first: dict[str, Candidate] = {}
        dropped: list[tuple[int, str, str]] = []
        for row in rows:
            if (other := first.setdefault(row.parsed.uid, row)) is not row:
                cure = f"{row.parsed.uid!r} is also the id of {other.place}; give each row its own"
                self._refuse(row.index, row.place, row.parsed.uid, UnusableRow(self.source.id_column or "id", cure))
                dropped.append((row.index, row.parsed.uid, f"{row.place}: {cure}"))
        self.report.add(split, "id of another row", len(rows), len(first), dropped)
        return list(first.values())

    def _uid(self, row: Row) -> str:
        """Return what names a row that cannot be used; empty if it has no id."""
        value = row[self.source.id_column] if self.source.id_column else None
        return "" if value is None else str(value).encode(errors="backslashreplace").decode()  # half characters too

    def _drop(
        self, split: str, name: str, rows: Sequence[Candidate], reason: Callable[[ParsedRow], str | None]
    ) -> list[Candidate]:
        """Drop the rows for which there is a reason, and report each unless the reason is empty."""
        reasons = [(row, reason(row.parsed)) for row in self.track(rows, f"{split}: {name}")]
        kept = [row for row, why in reasons if why is None]
        dropped = [(row.index, row.parsed.uid, why) for row, why in reasons if why]
        self.report.add(split, name, len(rows), len(kept), dropped)
        return kept

    def _repeated(self, row: ParsedRow) -> str | None:
        text = comparable(row.identity or row.question)
        if text in self._identities:
            return ""
        self._identities.add(text)
        return None

    def _too_long(self, limit: int) -> Callable[[ParsedRow], str | None]:
        name = self.settings.tokenizer
        if name is None:
            label = self.source.label
            raise BadInput(f"{label}: curation.max_prompt_tokens needs curation.tokenizer; name the policy there")
        from omnithink_pl.model.policy import load_tokenizer

        tokenizer = load_tokenizer(name, "curation.tokenizer")

        def reason(row: ParsedRow) -> str | None:
            length = len(tokenizer.encode(row.question, add_special_tokens=False))
            return f"{length} tokens" if length > limit else None

        return reason

    def _too_wide(self, limit: int) -> Callable[[ParsedRow], str | None]:
        return lambda row: f"{len(row.question)} characters" if len(row.question) > limit else None

    def _sample(self, split: str, rows: Sequence[Candidate], count: int | None) -> list[Candidate]:
        stratified, verifier = self.source.stratified, type(self.source).verifier
        count = len(rows) if count is None else count
        with verifier() if verifier else nullcontext(no_check) as check:
            kept, rejected = subsample(rows, count, self.settings.seed, stratified, check, self.track)
        for bad, why in rejected:
            reason = UnusableRow("answer", f"{why}; correct or drop the row")
            self._refuse(bad.index, bad.place, bad.parsed.uid, reason)
        if verifier:
            named = [(bad.index, bad.parsed.uid, why) for bad, why in rejected]
            self.report.add(split, "reference not verifiable", len(rows), len(rows) - len(rejected), named)
        self.report.add(split, "not sampled", len(rows) - len(rejected), len(kept))
        return kept

    def _refuse(self, index: int, place: Place, uid: str, why: UnusableRow) -> None:
        """End the run with the name of a row, unless such rows are dropped."""
        if self.settings.bad_rows == "raise":
            row = f"row {index} (uid {uid})" if uid else f"row {index}"
            raise BadInput(
                f"{self.source.label}: {row} in {place}: column {why.column!r} cannot be used: {why.cure}, or set "
                f"curation.bad_rows to drop"
            ) from why
