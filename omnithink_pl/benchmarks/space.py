"""Files of a space on the Hugging Face hub, or of a local directory in its shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnithink_pl.errors import BadInput


def space_files(source: str, path: str, revision: str | None, names: Sequence[str]) -> list[Path]:
    """Find some files, downloading them if need be.

    Args:
        source: Who asks, for messages.
        path: A directory, or the id of a space.
        revision: Of a space: a commit, tag or branch.
        names: The files, relative to it.

    Raises:
        BadInput: If one of them cannot be had; says what to do.
    """
    local = Path(path).expanduser()
    if not local.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise BadInput(f"{source}: path {path!r} does not exist; give a directory or the id of a space on the hub")
    directory = local if local.is_dir() else _download(source, path, revision, names)
    for name in names:
        if not (directory / name).is_file():
            raise BadInput(f"{source}: {directory} has no file {name}; copy it there from the hub's space")
    return [directory / name for name in names]


def _download(source: str, space: str, revision: str | None, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(space, repo_type="space", revision=revision, allow_patterns=list(names)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise BadInput(
            f"{source}: the hub's space {space!r} at {revision or 'main'} cannot be reached, or does not exist "
            f"({type(error).__name__}); connect to the network, or give a directory with {', '.join(names)} as its path"
        ) from error
