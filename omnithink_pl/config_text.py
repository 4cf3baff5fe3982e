"""Config files as the command line takes them: settings by key, each key once and as text; else file, line and cure.

YAML's own reader keeps the last of two equal keys, and makes a number of the key ``2024`` and a truth value of ``on``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from omnithink_pl.errors import BadInput

# Dictionaries whose keys are names of the user's.
_NAMED = {"tasks", "benchmarks", "beta", "targets", "steps", "replay"}
_TEXT = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}
_NUMBER = "tag:yaml.org,2002:int"


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config file holds.

    Raises:
        BadInput: Names file, line and cure.
        OSError: If there is no such file.
    """
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}, line {line}: byte {data[error.start]:#x} is not UTF-8; save it as UTF-8") from error
    return parse_config(text, str(path))


def parse_config(text: str, where: str) -> dict[str, Any]:
    """Return what a config holds.

    Args:
        text: YAML.
        where: File or argument, for messages.

    Raises:
        BadInput: Names the place, the line and the cure.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            found = "is empty" if root is None else "holds no keys"
            raise BadInput(f"{where} {found}; a config has settings by key, such as `name: mine`")
        _check_keys(root, where, "")
        return dict(yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{where}{line} is no YAML: {error.problem}; mend it") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is no YAML: {error}; mend it") from error


def _check_keys(node: yaml.Node, where: str, path: str) -> None:
    """Refuse a key that stands twice in one dictionary, or that YAML does not take for text."""
    if isinstance(node, yaml.SequenceNode):
        for position, part in enumerate(node.value):
            _check_keys(part, where, f"{path}.{position}")
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    named = path.rpartition(".")[2] in _NAMED
    for key, part in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        inner = f"{path}.{name}".strip(".")
        if name in lines:
            raise BadInput(f"{where}, line {line}: {inner} is there already, in line {lines[name]}; join the two")
        if key.tag not in _TEXT and (named or key.tag != _NUMBER):  # a number may be the place in a list
            raise BadInput(f'{where}, line {line}: YAML takes the key {inner} for no text; quote it: "{name}"')
        lines[name] = line
        _check_keys(part, where, inner)
