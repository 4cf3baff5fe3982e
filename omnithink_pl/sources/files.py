"""The files of a data set by split: a local file, a directory, or a repository of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from omnithink_pl.errors import BadInput
from omnithink_pl.sources.base import Row
from omnithink_pl.sources.reading import READERS, Found, read_file

_CARD = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class DataFiles:
    """The files that hold the rows of each split."""

    source: str  # name of the reader for messages, such as ``OpenR1Math(rows.jsonl)``
    splits: Mapping[str, tuple[Path, ...]]
    version: str  # changes when the files do: the hub's commit, or a hash of local names, sizes and times
    single: bool = False  # the path named one file, so that nothing says which split it is

    def read(self, split: str, columns: Sequence[str]) -> list[Row]:
        """Read the rows of a split: see :meth:`find`."""
        return [row for _, row in self.find(split, columns)]

    def find(self, split: str, columns: Sequence[str]) -> list[Found]:
        """Read the rows of a split, with just these columns, and where each stands.

        Raises:
            BadInput: If there is no such split, a column is missing, or a file is empty or damaged.
        """
        if split not in self.splits:
            raise BadInput(f"{self.source}: no split {split!r}; there is {', '.join(self.splits)}")
        rows: list[Found] = []
        for file in self.splits[split]:
            try:
                found, names = read_file(file, columns)
            except BadInput as error:
                raise BadInput(f"{self.source}: {error}") from error
            if names:  # a file of blank lines has none
                self._check_columns(names, columns, file)
            rows += found
        return rows

    def of_one_file(self, split: str) -> DataFiles:
        """Return the same files; a file named by itself counts as the given split."""
        return replace(self, splits={split: self.splits["train"]}) if self.single else self

    def _check_columns(self, found: Sequence[str], wanted: Sequence[str], file: Path) -> None:
        missing = [column for column in wanted if column not in found]
        if missing:
            raise BadInput(
                f"{self.source}: {file} has no column {', '.join(missing)} among {sorted(found)}; "
                f"name the source class that fits the data, or omnithink_pl.sources.Table, which takes any columns by "
                f"its argument columns={{question: prompt, reference: answer}}"
            )


def find_files(source: str, path: str, revision: str | None = None, config: str | None = None) -> DataFiles:
    """Find the files of a data set, named as for :class:`CuratedSource`; download them if need be.

    A directory in the shape of a repository on the hub has ``data/train-00000-of-00001.parquet``, with or without a
    card, or just ``train.jsonl``. Without a card, a configuration is the folder of that name, or all of the directory.

    Raises:
        BadInput: If there is nothing at ``path``, or nothing in a known format.
    """
    local = Path(path).expanduser()
    if local.is_file() and local.suffix in READERS:
        return DataFiles(source, {"train": (local,)}, str(local_version(path)), single=True)
    if local.exists():
        if config is not None and not (local / _CARD).is_file():
            local, config = local / config if (local / config).is_dir() else local, None
        return DataFiles(source, _splits(source, local, config), str(local_version(path)))
    if path.startswith((".", "/", "~")) or local.suffix in READERS or not _REPOSITORY.fullmatch(path):
        raise BadInput(f"{source}: path {path!r} does not exist; give a file, a directory or a hub id")
    downloaded = _download(source, path, revision, config)
    return DataFiles(source, _splits(source, downloaded, config), downloaded.name)


def _splits(source: str, directory: Path, config: str | None) -> dict[str, tuple[Path, ...]]:
    """Find files by split with the hub's own rules: what the card says, or else the files' names."""
    from datasets import load_dataset_builder
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError

    unknown = (
        f"{source}: {directory} has no data in a known format; give a .jsonl, .csv or .parquet file, or a directory "
        f"with such files named after their splits"
    )
    try:
        # An absolute path: a relative one with a slash could be taken for a hub id.
        found = load_dataset_builder(str(directory.resolve()), config).config.data_files or {}
    except (EmptyDatasetError, DatasetNotFoundError, FileNotFoundError) as error:
        raise BadInput(unknown) from error
    except ValueError as error:
        raise BadInput(f"{source}: {directory}: {error}; set `config` to one of its configurations") from error
    splits = {str(name): tuple(Path(file) for file in files) for name, files in found.items()}
    if not splits or any(file.suffix not in READERS for files in splits.values() for file in files):
        raise BadInput(unknown)
    return splits


def local_version(path: str) -> str | None:
    """Hash the names, sizes and times of a local file or directory; ``None`` if there is none at ``path``.

    Contents are not read: comparing gigabytes would take longer than reading the rows.
    """
    local = Path(path).expanduser()
    if not local.exists():
        return None
    files = [local] if local.is_file() else sorted(f for f in local.rglob("*") if f.suffix in (*READERS, ".md"))
    marks = [f"{file.relative_to(local)}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


class Unreachable(BadInput):
    """The hub cannot be reached."""


def _download(source: str, repository: str, revision: str | None, config: str | None) -> Path:
    """Download the files of one configuration to a directory in the repository's shape, named after the commit.

    All files are downloaded if the card names none. Those in the hub's cache are found without a network too.
    """
    card = _snapshot(source, repository, revision, [_CARD])
    patterns = data_patterns(card / _CARD, config) or [f"**{suffix}" for suffix in READERS]
    return _snapshot(source, repository, card.name, [_CARD, *patterns])


def data_patterns(card: Path, config: str | None) -> list[str]:
    """Return the data files that a data card (YAML front matter) names for a configuration; empty if it names none.

    Without a name, the configuration marked ``default``, or called so, is meant.
    """
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    front = re.match(r"---\s*\n(.*?)\n---", text, flags=re.DOTALL)
    configs = ((yaml.safe_load(front[1]) or {}).get("configs") or []) if front else []
    chosen = [entry for entry in configs if entry.get("config_name") == (config or "default")]
    if not chosen and not config:
        chosen = [entry for entry in configs if entry.get("default")] or configs[:1]
    return [
        f"{entry['data_dir'].rstrip('/')}/{path}" if entry.get("data_dir") else path
        for entry in chosen
        for path in _paths(entry.get("data_files"))
    ]


def _paths(found: object) -> list[str]:
    """Flatten paths in any of the forms that a card may use: one, a list, by split."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, dict):
        return _paths(found["path"] if "path" in found else list(found.values()))
    return [path for entry in found for path in _paths(entry)] if isinstance(found, list) else []


def _snapshot(source: str, repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{source}: the hub's data set {repository!r}"
    try:
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except RevisionNotFoundError as error:
        raise BadInput(
            f"{where} has no revision {revision!r}: it was mistyped, moved or removed; give a commit, tag or branch "
            f"that its page on the hub lists"
        ) from error
    except GatedRepoError as error:
        raise BadInput(f"{where} is gated; accept its terms on its page and log in with `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(f"{where} does not exist; give a hub id, a file or a directory") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        cause = error.__cause__ or error
        first = str(cause).strip().partition("\n")[0][:200]
        raise Unreachable(
            f"{where} at {revision or 'main'} cannot be reached ({type(cause).__name__}: {first}) and has not been "
            f"downloaded before; connect to the network and run `python main.py prepare`, or give a local copy as its "
            f"path"
        ) from error
