"""Curated rows on disk, found again by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from omnithink_pl.sources.curation import Curation, Report
from omnithink_pl.sources.files import local_version
from omnithink_pl.sources.hub import Unreachable, is_commit

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Split
    from omnithink_pl.sources.files import DataFiles
    from omnithink_pl.sources.rows import Row

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
