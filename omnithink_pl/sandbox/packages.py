"""What a box needs to import packages: their folders, those of what they depend on, and their compiled libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType


@cache  # looks at everything that is installed, for a second or so; 32 boxes that start together took 49
def package_files(packages: tuple[str, ...]) -> Mapping[str, str]:
    """Return the installed packages among these, all that they import in turn, and libraries, with their paths.

    ``pandas`` needs ``numpy``, ``dateutil`` and the file ``six.py``; wheels of ``numpy`` bring ``numpy.libs``.
    """
    found: dict[str, str] = {}
    remaining = list(packages)
    providers = metadata.packages_distributions() if remaining else {}
    for name in remaining:  # which grows meanwhile
        if name in found or (path := _path(name)) is None:
            continue
        found[name] = path
        libraries = Path(path).parent / f"{name}.libs"
        if libraries.is_dir():
            found[libraries.name] = str(libraries)
        required = {_normal(needed) for owner in providers.get(name, ()) for needed in _requirements(owner)}
        remaining += [module for module, owners in providers.items() if required & set(map(_normal, owners))]
    return MappingProxyType(found)


def _path(name: str) -> str | None:
    spec = find_spec(name)
    if spec is None or "." in name:
        return None
    return spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin


def _requirements(distribution: str) -> list[str]:
    """Return the names of what a distribution needs here, but for its extras."""
    needed = [line for line in metadata.requires(distribution) or () if "extra ==" not in line]
    return [match.group() for line in needed if (match := re.match(r"[\w.-]+", line))]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
