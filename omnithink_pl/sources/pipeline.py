"""From the rows of a data set to those that are used, filter by filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.curation import Candidate, Report, Track
from omnithink_pl.sources.draw import all_usable, by_category, draw, held_out
from omnithink_pl.sources.overlap import OverlapIndex, words
from omnithink_pl.sources.rows import Row, unusable

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split
    from omnithink_pl.sources.curated import CuratedSource
    from omnithink_pl.sources.files import DataFiles


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
        from omnithink_pl.policy import load_tokenizer

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
