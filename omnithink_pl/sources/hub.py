"""A data set's repository on the Hugging Face hub, downloaded at one revision."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from omnithink_pl.errors import BadInput

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Unreachable(BadInput):
    """The hub cannot be asked."""


def download(source: str, repository: str, revision: str | None, config: str | None) -> Path:
    """The files of one configuration, in the shape they have on the hub.

    The repository is taken at exactly one commit, whose hash is the name of the directory returned. What was
    downloaded before is not downloaded again, and is found without a network too.

    Args:
        source: Who asks, for messages.
        repository: Such as ``open-r1/OpenR1-Math-220k``.
        revision: A commit, tag or branch; ``main`` if not given.
        config: Of several configurations, the one whose files are wanted; all files if the card names none.

    Raises:
        BadInput: If repository or revision do not exist, or there is no network; says what to do.
    """
    card = _snapshot(source, repository, revision, [_CARD])
    patterns = data_patterns(card / _CARD, config) or [f"**{suffix}" for suffix in FORMATS]
    return _snapshot(source, repository, card.name, [_CARD, *patterns])


def data_patterns(card: Path, config: str | None) -> list[str]:
    """The data files that a data card names for a configuration; empty where it leaves them to their names.

    Args:
        card: A ``README.md`` with YAML front matter.
        config: Name of the configuration; the one marked ``default``, or called so, if not given.
    """
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    front = re.match(r"---\s*\n(.*?)\n---", text, flags=re.DOTALL)
    configs = ((yaml.safe_load(front[1]) or {}).get("configs") or []) if front else []
    named = [entry for entry in configs if entry.get("config_name") == (config or "default")]
    chosen = (named or [entry for entry in configs if entry.get("default")] or configs[:1]) if not config else named
    return [_join(entry.get("data_dir"), path) for entry in chosen for path in _paths(entry.get("data_files"))]


def _paths(found: object) -> list[str]:
    """Paths in any of the forms that a card may give: one, a list, by split."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, dict):
        return _paths(found["path"] if "path" in found else list(found.values()))
    return [path for entry in found for path in _paths(entry)] if isinstance(found, list) else []


def _join(directory: str | None, path: str) -> str:
    return f"{directory.rstrip('/')}/{path}" if directory else path


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
        raise Unreachable(
            f"{where} at {revision or 'main'} cannot be reached ({_first_line(error)}) and has not been downloaded "
            f"before; connect to the network and run `python main.py prepare`, or give a local copy as its path"
        ) from error


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:200]}"


def is_commit(revision: str | None) -> bool:
    """Whether a revision is the full hash of a commit, which can never mean anything else."""
    return bool(revision and _COMMIT.fullmatch(revision))
