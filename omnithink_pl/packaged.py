"""The configs that come with the package, for a command that runs outside of a checkout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def locate(path: str, configs: Path) -> str:
    """Return the path of a config: ``configs/joint.yaml`` is the packaged one where there is no such file.

    Args:
        path: As the user wrote it.
        configs: Folder of the packaged configs, whose own name is ``configs``.
    """
    packaged = configs.parent / path
    ours = Path(path).parts[:1] == (configs.name,) and not Path(path).exists() and packaged.is_file()
    return str(packaged) if ours else path


def locate_all(arguments: Sequence[str], configs: Path) -> list[str]:
    """Locate every config among arguments, also in ``--config=configs/joint.yaml``."""
    split = (argument.rpartition("=") for argument in arguments)
    return [option + equals + locate(path, configs) for option, equals, path in split]
