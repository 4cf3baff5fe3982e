"""A training set that is curated once and read from a cache ever after."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.cache import CuratedCache
from omnithink_pl.sources.curation import Curation, Report, Track
from omnithink_pl.sources.draw import Check
from omnithink_pl.sources.files import DataFiles, find_files
from omnithink_pl.sources.pipeline import Pipeline
from omnithink_pl.sources.rows import EMBEDDED, Row

if TYPE_CHECKING:
    from omnithink_pl.types import Example


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
