"""How a config changes those before it: what it does not name is kept.

jsonargparse merges the arguments of classes, but takes a dictionary whose keys are data (``data.tasks``,
``model.kl.beta``) for one value, which a later one replaces. The command line gets the same rules where it has none.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse._util import import_object  # private, but jsonargparse is pinned

from omnithink_pl.errors import BadInput

REPLACE = "!"  # behind a key: `tasks!: {...}` keeps nothing of the previous dictionary
_INDEX = re.compile(r"\[(-?\d+)\]")  # of a list: `stages[0]` is `stages.0`
_CLASS = re.compile(r"([A-Za-z_]\w*\.)*[A-Z]\w*")
_PLACE = re.compile(r"-?\d+")  # -1 to be refused: there is a last element for Python only


def merge(config: Mapping[Any, Any], previous: Any, where: str = "") -> dict[Any, Any]:
    """Complete a config with the entries of previous ones that jsonargparse would drop.

    ======================  ===================================================================
    ``tasks: {qa: {...}}``  changes this entry; the other entries are kept
    ``tasks: {qa: null}``   removes it, as does ``stages: {0: null}``
    ``tasks!: {...}``       replaces the whole dictionary
    ``stages: {0: {...}}``  changes one element of a list, counted from 0; a list replaces lists
    ======================  ===================================================================

    Args:
        config: What a file or an argument holds.
        previous: What those before it come to: a namespace, a dictionary or nothing.
        where: Dotted key of the config, for messages.

    Raises:
        BadInput: If a list has no such element, or ``!`` stands behind a key whose entries cannot be replaced.
    """
    merged: dict[Any, Any] = {}
    if "class_path" in (previous or {}):
        if "init_args" not in config and "class_path" not in config:
            config = {"init_args": config}  # which need not be written
        if "class_path" not in config:
            merged["class_path"] = previous["class_path"]
    for key, value in config.items():
        name = key.removesuffix(REPLACE) if isinstance(key, str) else key
        path = f"{where}.{name}".strip(".").replace(".init_args", "")
        before = previous.get(name) if isinstance(previous, dict | Namespace) else None
        if name != key:
            if isinstance(before, Namespace):
                raise BadInput(
                    f"{path}{REPLACE}: only a dictionary whose keys are data, such as data.tasks, is replaced"
                )
            if before is not None:
                previous.pop(name)  # jsonargparse completes entries by those of the same name
        elif isinstance(value, dict):
            value = _merge_value(value, before, path)
        merged[name] = value
    return merged


def _merge_value(value: dict[Any, Any], before: Any, path: str) -> Any:
    if isinstance(before, list) and value and all(isinstance(key, int) for key in value):
        return _merge_list(value, before, path)
    _check_new_classes(value, before, path)
    value = merge(value, before, path)
    if isinstance(before, dict):
        # An entry of classes that is gone already stays so; other values, such as a judge's parameters, may be null.
        removed = {key for key, new in value.items() if new is None and (key in before or _holds_classes(before))}
        value = {key: new for key, new in {**before, **value}.items() if key not in removed}
    return value


def _holds_classes(before: Any) -> bool:
    entries = before.values() if isinstance(before, dict) else ()
    return any(isinstance(old, dict | Namespace) and "class_path" in old for old in entries)


def _check_new_classes(value: dict[Any, Any], before: Any, path: str) -> None:
    """Refuse an entry without a class that no previous config has: most likely its name is misspelt."""
    if not _holds_classes(before):
        return
    for name, new in value.items():
        key = name.removesuffix(REPLACE) if isinstance(name, str) else name
        if isinstance(new, dict) and key not in before and "class_path" not in new:
            near = get_close_matches(str(key), before, n=1)
            cure = f"did you mean {near[0]}?" if near else f"give one, or change one of {', '.join(before)}"
            raise BadInput(f"{path}.{key} is new and has no class_path; {cure}")


def _merge_list(value: dict[int, Any], before: list[Any], path: str) -> list[Any]:
    merged: list[Any] = [_plain(old) for old in before]
    for position, new in value.items():
        if not 0 <= position < len(before):
            raise BadInput(f"{path}.{position}: there are {len(before)} elements, counted from 0")
        old = merged[position]
        merged[position] = {**old, **merge(new, old, f"{path}.{position}")} if isinstance(new, dict) else new
    return [new for new in merged if new is not None]


def forget_defaults(config: Any, previous: Any) -> None:
    """Remove what nobody set from the classes that a config replaces: arguments at the former class's own defaults.

    jsonargparse hands on all arguments that the other class has too, so that the default of one would be a setting of
    the other: of ``EmbeddedJudge`` a margin between two scores, of ``LogitJudge`` one between two probabilities. What
    was set to another value is kept.

    Args:
        config: What a file or an argument holds, or a part of it.
        previous: What those before it come to there, which is changed.
    """
    if isinstance(previous, dict | Namespace) and "class_path" in previous:
        if isinstance(config, str):
            config = {"class_path": config}
        elif isinstance(config, dict | Namespace) and "class_path" not in config and "init_args" not in config:
            config = {"init_args": config}
        if isinstance(config, dict | Namespace) and isinstance(config.get("class_path"), str):
            _forget_arguments(previous, config["class_path"])
    for key, value in _parts(config):
        forget_defaults(value, dict(_parts(previous)).get(key))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict | Namespace):
        return list(vars(value).items() if isinstance(value, Namespace) else value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _forget_arguments(previous: Any, class_path: str) -> None:
    former, arguments = previous["class_path"], previous.get("init_args") or {}
    if f".{former}".endswith(f".{class_path}"):
        return
    try:
        parameters = inspect.signature(import_object(former)).parameters
    except (ValueError, TypeError):  # some classes written in C have none
        return
    for name, parameter in parameters.items():
        if name in arguments and _plain(arguments[name]) == _plain(parameter.default):
            arguments.pop(name)


def with_removed(config: Any, default: Any) -> Any:
    """Return a config, or a part of it, with null for every entry of the defaults' dictionaries that it has not."""
    if isinstance(config, Namespace) and isinstance(default, Namespace):
        if config.get("class_path") != default.get("class_path"):
            return config
        completed = config.clone()
        for key in vars(default).keys() & vars(config).keys():
            completed[key] = with_removed(config[key], default[key])
        return completed
    if not isinstance(config, dict) or not isinstance(default, dict):
        return config
    kept = {key: with_removed(value, default.get(key)) for key, value in config.items()}
    return kept | {key: None for key in default if key not in config}


def _plain(value: Any) -> Any:
    if isinstance(value, Namespace):
        return value.as_dict()
    if isinstance(value, tuple):
        return list(value)
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def as_configs(arguments: Sequence[str]) -> Iterator[str]:
    """Write as inline configs the arguments that jsonargparse could not place, or would replace a dictionary by.

    Those are ``--curriculum.stages.0.steps=5`` or ``stages[0]``, ``--data.tasks.qa=null``, ``--data.tasks!={...}`` and
    ``--model.kl.beta={math: 0}``; and those that name a class, for ``forget_defaults``.
    """
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        option, equals, text = argument.partition("=")
        option = _INDEX.sub(r".\1", option)
        if not equals and rest:
            text = rest[0]
        known = "." not in option and not ("." in text and option != "--config" and _names_class(text))
        if known or not option.startswith("--"):
            yield argument
            continue
        if not equals and rest:
            rest.popleft()
        *outer, last = option[2:].split(".")
        value = yaml.safe_load(text) if text == "null" or text.startswith("{") or last.endswith(REPLACE) else text
        named = last != "help" and _names_class(text)  # --model.optimizer.help=CLASS asks, and sets nothing
        if isinstance(value, str) and not any(map(_PLACE.fullmatch, outer)) and not named:
            yield from [f"{option}={text}"] if equals else [option, text]
            continue
        value = yaml.safe_load(text)
        for part in reversed([*outer, last]):
            value = {int(part) if _PLACE.fullmatch(part) else part: value}
        yield f"--config={yaml.safe_dump(value, default_flow_style=True, width=float('inf')).strip()}"


def _names_class(text: str) -> bool:
    return _CLASS.fullmatch(text) is not None and isinstance(yaml.safe_load(text), str)  # True is none
