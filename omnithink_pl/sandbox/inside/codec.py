"""Values as plain data: what crosses between a test and the program that it tests.

A message holds a table of objects, so that shared and circular structures of any depth arrive as they
were. Scalars stand for themselves; everything else is a JSON object with one key: ``r`` refers to the
table, ``t`` is a tuple, and so on. Nothing is ever built from a class that the other side chose, except
nodes of linked structures, field by field, and no method of such a class runs.
"""

from __future__ import annotations

import builtins
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from omnithink_pl.sandbox.inside.nodes import NODE_FIELDS, NODE_NAMES

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
_BUILTIN_NAMES = {value: name for name, value in vars(builtins).items() if isinstance(value, type)}


class Encoder:
    """Turns values into plain data.

    Args:
        export: Gives the number under which the other side may refer to a live object.
        objects: Objects that already stand in the table, in order.
    """

    def __init__(self, export: Callable[[Any], int], objects: Sequence[Any] = ()) -> None:
        self._export = export
        self.objects = list(objects)
        self._numbers = {id(value): number for number, value in enumerate(self.objects)}

    def encode(self, *roots: Any) -> tuple[list[Any], list[Any]]:
        """The encoded roots, and the table: ``[kind, content]`` for each object."""
        encoded = [self._value(root) for root in roots]
        table: list[Any] = []
        while len(table) < len(self.objects):  # filling in one object may add more
            table.append(self._content(self.objects[len(table)]))
        return encoded, table

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind in _MUTABLE or _is_node(value):
            return self._reference(value)
        match value:
            case str():
                return str.__str__(value)
            case bool() | int():
                return int.__int__(value)
            case float():
                return float.__float__(value)
            case complex():
                return {"complex": [value.real, value.imag]}
            case tuple():
                return {"t": [self._value(item) for item in value]}
            case frozenset():
                return {"frozen": [self._value(item) for item in value]}
            case bytes():
                return {"b": value.decode("latin-1")}
            case range():
                return {"range": [value.start, value.stop, value.step]}
            case Decimal():
                return {"decimal": str(value)}
            case Fraction():
                return {"fraction": [value.numerator, value.denominator]}
            case list() | dict() | set() | deque():
                return self._reference(value)  # a subclass crosses as what it is a kind of
            case type() if value in _BUILTIN_NAMES:
                return {"type": _BUILTIN_NAMES[value]}
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
        if set(map(type, value)) <= _SCALARS:
            return [name, list(value)]
        return [name, [self._value(item) for item in value]]


class Decoder:
    """Turns plain data back into values.

    Args:
        node_class: Finds the class for a node by name; one of ``NODE_NAMES``.
        resolve: Gives what an exported number stands for here.
    """

    def __init__(self, node_class: Callable[[str], type], resolve: Callable[[int], Any]) -> None:
        self._node_class = node_class
        self._resolve = resolve
        self.objects: list[Any] = []

    def decode(self, encoded: Sequence[Any], table: Sequence[Any], known: Sequence[Any] = ()) -> list[Any]:
        """The roots.

        Args:
            encoded: The roots as they came.
            table: The objects as they came.
            known: Objects that stand first in the table and exist here: they are given new content.

        Raises:
            ValueError, TypeError, KeyError, IndexError: If it is not what an :class:`Encoder` makes.
        """
        if len(table) < len(known):
            raise ValueError("known objects are missing")
        made = [self._make(kind) for kind, _ in table[len(known) :]]
        self.objects = [*known, *made]
        fresh = [self._make(kind) for kind, _ in table[: len(known)]]
        for target, shell in zip(known, fresh, strict=True):
            if not _is_node(target) and not isinstance(target, type(shell)):
                raise TypeError("a known object changed its kind")
        for target, (kind, content) in zip(self.objects, table, strict=True):
            self._fill(target, kind, content)
        return [self._value(root) for root in encoded]

    def _make(self, kind: str) -> Any:
        if kind in NODE_NAMES:
            return object.__new__(self._node_class(kind))
        return _MAKE[kind]()

    def _fill(self, target: Any, kind: str, content: Any) -> None:
        if kind in NODE_NAMES:
            for name, item in content.items():
                if name not in NODE_FIELDS:
                    raise ValueError(f"a node has no field {name!r}")
                setattr(target, name, self._value(item))
        elif kind in _MAPPINGS:
            pairs = [(self._value(key), self._value(item)) for key, item in content]
            target.clear()
            for key, item in pairs:
                target[key] = item
        elif kind == "set":
            items = [self._value(item) for item in content]
            target.clear()
            target.update(items)
        elif kind == "bytes":
            target[:] = content.encode("latin-1")
        else:
            plain = set(map(type, content)) <= _SCALARS
            items = content if plain else [self._value(item) for item in content]
            target.clear()
            target.extend(items)

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
            case "b":
                return content.encode("latin-1")
            case "complex":
                return complex(*map(float, content))
            case "range":
                return range(*content)
            case "decimal":
                return Decimal(content)
            case "fraction":
                return Fraction(*content)
            case "type":
                return _builtin_type(content)
        raise ValueError(f"there is no kind {tag!r}")


def _builtin_type(name: str) -> type:
    found = vars(builtins)[name]
    if not isinstance(found, type):
        raise TypeError(f"{name} is no type")
    return found


def _is_node(value: Any) -> bool:
    return type(value).__name__ in NODE_NAMES and set(_fields(value)) <= NODE_FIELDS


def _fields(value: Any) -> Mapping[str, Any]:
    """Attributes of an instance, of a class with or without slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
