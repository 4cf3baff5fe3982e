"""Which weights a policy has: what was sampled from others, behind the same name, must not be taken for its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from omnithink_pl.model.policy import find_policy

_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".model"}  # of weights and settings; a log or a card is neither
_BYTES, _PLACES = 2**16, 64


def policy_version(name: str) -> str:
    """Return the commit of a policy of the hub, or a hash of the weights and settings in a directory.

    Args:
        name: ``embedded``, a local directory, or a hub id.

    Raises:
        BadInput: If there is no such policy.
    """
    from huggingface_hub import hf_hub_download

    path = find_policy(name)
    directory = Path(path) if Path(path).is_dir() else Path(hf_hub_download(path, "config.json")).parent
    if directory.parent.name == "snapshots":  # of the hub's cache
        return directory.name
    return files_version(sorted(file for file in directory.rglob("*") if file.suffix in _SUFFIXES and file.is_file()))


def files_version(files: Iterable[Path]) -> str:
    """Return a hash of files' names, sizes and contents; their times, which a copy changes, do not count.

    Of a large file 64 places are read and not its gigabytes: training changes weights everywhere.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as content:
            for place in range(0, size, max(_BYTES, size // _PLACES)):
                content.seek(place)
                digest.update(content.read(_BYTES))
    return digest.hexdigest()[:16]
