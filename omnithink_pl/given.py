"""What the user has set: each setting with the file or argument that has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from omnithink_pl import overlays
from omnithink_pl.config_text import parse_config, read_config


class Setting(NamedTuple):
    """A setting of a config file or of the command line."""

    where: str  # the file, or the argument
    key: str  # dotted, without ``init_args``
    value: object


def read_settings(args: Sequence[str]) -> Iterator[Setting]:
    """Yield every setting of a verb's arguments, and of the files that ``--config`` names; groups before their parts.

    A file that is not there, and a value that is no YAML, are left to the parser, which says why.

    Raises:
        BadInput: If a config is no YAML, or its keys are not read as they are written.
    """
    for place, arg in enumerate(args):
        option, equals, text = arg.partition("=")
        if not equals:
            text = args[place + 1] if place + 1 < len(args) else ""
        try:
            if option in {"-c", "--config"}:
                yield from _of_config(option, text)
            elif option.startswith("--"):
                key = option[2:].replace(".init_args", "").replace(overlays.REPLACE, "")
                yield from (Setting(option, key[: dot.start()], None) for dot in re.finditer(r"\.", key))
                yield from _flatten(option, key, yaml.safe_load(text))
        except (OSError, yaml.YAMLError):
            continue


def _of_config(option: str, text: str) -> Iterator[Setting]:
    """Yield the settings of a file, of those that it names, such as ``data: data.yaml``, or of a config in braces."""
    if text.startswith("{"):
        yield from _flatten(option, "", parse_config(text, option))
        return
    for key, value in read_config(Path(text)).items():
        if isinstance(value, str) and value.endswith(".yaml"):
            value = read_config(Path(text).with_name(value))
        yield from _flatten(text, key.removesuffix(overlays.REPLACE), value)


def _flatten(where: str, key: str, value: object) -> Iterator[Setting]:
    yield Setting(where, key, value)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        inner = key if name == "init_args" else f"{key}.{name}".strip(".").removesuffix(overlays.REPLACE)
        yield from _flatten(where, inner, part)
