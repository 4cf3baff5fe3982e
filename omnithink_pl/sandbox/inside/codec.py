"""Messages between processes: JSON objects in frames, and Python values as plain data in them.

A frame is four bytes of length, big-endian, then the JSON text.

Encoded values refer to a table of objects, so that shared and circular structures of any depth arrive as they
were. Scalars stand for themselves; everything else is a JSON object with one key: ``r`` refers to the table, ``t`` is a
tuple, and so on.

Not covered: instances of other classes. Nothing is ever built from a class that the other side chose, except nodes of
linked structures, field by field, and no method of such a class runs. Everything else crosses as a reference.
"""

from __future__ import annotations

import builtins
import json
import socket
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from omnithink_pl.sandbox.inside.prelude import NODE_FIELDS, NODES

Message = dict[str, Any]
LENGTH = struct.Struct(">I")
_MAX_FILES = 8  # in one message
MAX_BYTES = 1 << 26  # of one frame from or to a program
_SCALARS = {type(None), bool, int, float, str}
_MUTABLE: dict[type, str] = {
    list: "list",
    dict: "dict",
    set: "set",
    deque: "deque",
    bytearray: "bytes",
    Counter: "counter",
    OrderedDict: "ordered",
    defaultdict: "default",
}
_MAKE: dict[str, Callable[[], Any]] = {name: kind for kind, name in _MUTABLE.items()}
_MAPPINGS = {"dict", "counter", "ordered", "default"}
# By tag: type, its value as JSON, and the reverse.
_IMMUTABLE: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "complex": (complex, lambda value: [value.real, value.imag], lambda parts: complex(*map(float, parts))),
    "b": (bytes, lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1")),
    "range": (range, lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
    "decimal": (Decimal, str, Decimal),
    "fraction": (Fraction, lambda value: [value.numerator, value.denominator], lambda parts: Fraction(*parts)),
}
_BUILTIN_NAMES = {value: name for name, value in vars(builtins).items() if isinstance(value, type)}


def send(control: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Send a message with file descriptors attached."""
    data = json.dumps(message).encode()
    socket.send_fds(control, [LENGTH.pack(len(data))], list(files))
    control.sendall(data)


def receive(control: socket.socket) -> tuple[Message, list[int]]:
    """Return the next message and its file descriptors; raises ``EOFError`` if the other side has gone."""
    head, files, _, _ = socket.recv_fds(control, LENGTH.size, _MAX_FILES)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    return json.loads(exactly(size, control.recv)), files


def exactly(size: int, receive_bytes: Callable[[int], bytes]) -> bytes:
    """Return this many bytes, or raise ``EOFError``."""
    data = bytearray()
    while len(data) < size:
        if not (chunk := receive_bytes(min(size - len(data), 1 << 20))):
            raise EOFError
        data += chunk
    return bytes(data)


class Encoder:
    """Encodes values as plain data. ``export`` numbers a live object; ``objects`` are in the table already."""

    def __init__(self, export: Callable[[Any], int], objects: Sequence[Any] = ()) -> None:
        self._export = export
        self.objects = list(objects)
        self._numbers = {id(value): number for number, value in enumerate(self.objects)}

    def encode(self, *roots: Any) -> tuple[list[Any], list[Any]]:
        """Return the encoded roots, and the table: ``[kind, content]`` for each object."""
        encoded = [self._value(root) for root in roots]
        table: list[Any] = []
        while len(table) < len(self.objects):  # the content of one object may add more
            table.append(self._content(self.objects[len(table)]))
        return encoded, table

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind in _MUTABLE or _is_node(value):
            return self._reference(value)
        match value:
            # Subclasses cross as their base class, by the base class's own methods.
            case str():
                return str.__str__(value)
            case int():
                return int.__int__(value)
            case float():
                return float.__float__(value)
            case tuple():
                return {"t": [self._value(item) for item in value]}
            case frozenset():
                return {"frozen": [self._value(item) for item in value]}
            case list() | dict() | set() | deque():
                return self._reference(value)
            case type() if value in _BUILTIN_NAMES:
                return {"type": _BUILTIN_NAMES[value]}
        for tag, (base, encode, _) in _IMMUTABLE.items():
            if isinstance(value, base):
                return {tag: encode(value)}
        return {"o": self._export(value)}

    def _reference(self, value: Any) -> dict[str, int]:
        number = self._numbers.setdefault(id(value), len(self.objects))
        if number == len(self.objects):
            self.objects.append(value)  # which also keeps its id from being used again
        return {"r": number}

    def _content(self, value: Any) -> list[Any]:
        if _is_node(value):
            return [type(value).__name__, {name: self._value(item) for name, item in _fields(value).items()}]
        name = _MUTABLE.get(type(value)) or next(name for kind, name in _MUTABLE.items() if isinstance(value, kind))
        if name == "bytes":
            return [name, value.decode("latin-1")]
        if name in _MAPPINGS:
            return [name, [[self._value(key), self._value(item)] for key, item in value.items()]]
        plain = set(map(type, value)) <= _SCALARS  # only makes it faster
        return [name, list(value) if plain else [self._value(item) for item in value]]


class Decoder:
    """Decodes plain data. ``node_class`` returns a node's class by name, ``resolve`` an exported object by number."""

    def __init__(self, node_class: Callable[[str], type], resolve: Callable[[int], Any]) -> None:
        self._node_class = node_class
        self._resolve = resolve
        self.objects: list[Any] = []

    def decode(self, encoded: Sequence[Any], table: Sequence[Any], known: Sequence[Any] = ()) -> list[Any]:
        """Return the roots. Known objects come first in the table and exist here: their content is replaced."""
        if len(table) < len(known):
            raise ValueError("known objects are missing")
        made = [object.__new__(self._node_class(kind)) if kind in NODES else _MAKE[kind]() for kind, _ in table]
        for target, shell in zip(known, made, strict=False):
            if not _is_node(target) and not isinstance(target, type(shell)):
                raise TypeError("a known object changed its kind")
        self.objects = [*known, *made[len(known) :]]
        for target, (kind, content) in zip(self.objects, table, strict=True):
            self._fill(target, kind, content)
        return [self._value(root) for root in encoded]

    def _fill(self, target: Any, kind: str, content: Any) -> None:
        if kind in NODES:
            for name, item in content.items():
                if name not in NODE_FIELDS:
                    raise ValueError(f"a node has no field {name!r}")
                setattr(target, name, self._value(item))
        elif kind in _MAPPINGS:
            pairs = [(self._value(key), self._value(item)) for key, item in content]
            target.clear()
            for key, item in pairs:  # not ``update``, with which a Counter counts
                target[key] = item
        elif kind == "bytes":
            target[:] = content.encode("latin-1")
        else:
            plain = set(map(type, content)) <= _SCALARS
            items = content if plain else [self._value(item) for item in content]
            target.clear()
            (target.update if kind == "set" else target.extend)(items)

    def _value(self, value: Any) -> Any:
        if type(value) in _SCALARS:
            return value
        ((tag, content),) = value.items()
        match tag:
            case "r":
                return self.objects[content]
            case "o":
                return self._resolve(content)
            case "t":
                return tuple(self._value(item) for item in content)
            case "frozen":
                return frozenset(self._value(item) for item in content)
            case "type" if isinstance(found := vars(builtins)[content], type):
                return found
        if tag not in _IMMUTABLE:
            raise ValueError(f"no value has the tag {tag!r}")
        return _IMMUTABLE[tag][2](content)


def _is_node(value: Any) -> bool:
    return type(value).__name__ in NODES and set(_fields(value)) <= NODE_FIELDS


def _fields(value: Any) -> Mapping[str, Any]:
    """Return the attributes of an instance, of a class with or without slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
