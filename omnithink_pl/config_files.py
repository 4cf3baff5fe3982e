"""The verb ``configs``: list the packaged configs, copy one to change it, compare two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omnithink_pl.config_text import read_config
from omnithink_pl.errors import BadInput
from omnithink_pl.verb_table import show

_USAGE = "configs ls [PART] | cp CONFIG FILE | diff CONFIG CONFIG"
_ABSENT = "(not set)"
_OPTIONS = ("--config", "-c")
_NAME = re.compile(r"[\w./~+-]+")  # no config in braces


def run(args: Sequence[str], folder: Path) -> None:
    """List, copy or compare configs.

    Args:
        args: ``ls [PART]``, ``cp CONFIG FILE`` or ``diff CONFIG CONFIG``; a config is a file, or the name of a packaged
            one such as ``scale/lora``.
        folder: Of the packaged configs.

    Raises:
        BadInput: If that is not what is given, or a file is missing or would be overwritten.
    """
    match list(args):
        case ["ls", *parts] if len(parts) < 2:
            show("\n".join(f"{name:<32}{first}" for name, first in _listed(folder, "".join(parts[:1]))))
        case ["cp", config, target]:
            copy(find(config, folder), Path(target))
        case ["diff", one, other]:
            show("\n".join(differences(find(one, folder), find(other, folder))))
        case _:
            raise BadInput(f"usage: main.py {_USAGE}")


def _listed(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield names and first comments of the configs whose name has a part."""
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if part in name:
            lines = path.read_text(encoding="utf-8").splitlines()
            comment = next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
            yield name, comment if len(comment) <= 88 else f"{comment[:87]}…"


def find(config: str, folder: Path) -> Path:
    """Return the file of a config: a path, or a name of the packaged ones with or without its ending.

    Raises:
        BadInput: If there is none; names the nearest.
    """
    named = config.removeprefix(f"{folder.name}/").removesuffix(".yaml")
    for path in (Path(config).expanduser(), folder / f"{named}.yaml"):
        if path.is_file():
            return path
    near = get_close_matches(named, [name for name, _ in _listed(folder, "")], n=1)
    cure = f"did you mean {near[0]}?" if near else "`main.py configs ls` lists those that come along"
    raise BadInput(f"config: no file {config!r}; {cure}")


def with_paths(args: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments of a verb with the file of each ``--config``: it may be a name, such as ``scale/lora``.

    Raises:
        BadInput: If there is no such file.
    """
    found: list[str] = []
    for arg in args:
        option, _, value = arg.partition("=")
        if found and found[-1] in _OPTIONS and _NAME.fullmatch(arg):
            arg = str(find(arg, folder))
        elif option in _OPTIONS and _NAME.fullmatch(value):
            arg = f"{option}={find(value, folder)}"
        found.append(arg)
    return found


def copy(config: Path, target: Path) -> None:
    """Copy a config; a file that is there already is kept."""
    target = target / config.name if target.is_dir() else target
    if target.exists():
        raise BadInput(f"configs: {target} is there already; name another file, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(config.read_bytes())
    show(f"{target}: change it, then: main.py fit --config {target}")


def differences(one: Path, other: Path) -> list[str]:
    """Return the keys that two files set differently: ``- key: value`` of the first, ``+ key: value`` of the other."""
    before, after = (dict(leaves(read_config(path))) for path in (one, other))
    lines = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        lines += [f"{sign} {key}: {value}" for sign, value in (("-", old), ("+", new)) if old != new]
    return lines


def leaves(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys without ``init_args``, and their values; what is empty is a value."""
    parts = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    if not parts or not config:
        yield key, config
        return
    for name, part in parts:
        yield from leaves(part, key if name == "init_args" else f"{key}.{name}".strip("."))
