"""What jsonargparse says of a wrong argument, without the way there."""

from __future__ import annotations

import re

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)"(?P<element>[^:]*):(?P<rest>.*)')
_FRAMES = re.compile(
    r"Problem with given class_path|Does not validate against any of|Subtypes: |Errors:|Given value type: |"
    r"Expected a path but .* either not accessible or invalid|Expected a <class 'NoneType'>"
)
_GIVEN = re.compile(r"Given value: (?:NestedArg\(key='[^']*', val=(?P<nested>.*)\)|(?P<value>.*))")
_NAME = re.compile(r"<class '([^']+)'>|(?:typing|collections\.abc)\.(?=\w)")


def readable(message: str) -> str:
    """The causes in a message of jsonargparse 4.47, each behind the whole key that it belongs to.

    That message has a nested block for each class on the way and, for a value that may be left out, also a complaint of
    its not being null; of the key it names one part at a time.

    Args:
        message: Lines that are indented by their level.

    Returns:
        A line ``key: cause``; where a value may be of several kinds one for each, with the value behind the last.
    """
    causes: list[str] = []
    keys: list[tuple[int, str]] = []
    given: list[str] = []
    for raw in filter(str.strip, message.splitlines()):
        line = raw.lstrip(" -")
        depth = len(raw) - len(line)
        keys = [(at, key) for at, key in keys if at < depth]
        if found := _KEY.match(line):
            keys.append((depth, found["key"] + found["element"]))
            line = found["rest"].strip()
        if found := _GIVEN.match(line):
            given.append(found["nested"] or found["value"])
        elif line and not _FRAMES.match(line):
            cause = _NAME.sub(lambda name: name[1] or "", line)
            causes.append(f"{'.'.join(key for _, key in keys)}: {cause}" if keys else cause)
    if len(causes) > 1 and given:
        return "\n  or ".join(causes) + f"; the value is {given[0]}"
    return "\n  ".join(causes) or message
