"""The kinds of plain data, which cross between a program and its test as what they are.

*Immutable* values are written in full wherever they stand. *Mutable* ones are objects with an identity, so that
:mod:`~omnithink_pl.sandbox.inside.memory` sends their content apart.

Instances of subclasses are read and filled by the base class's own methods: no method of the program takes part.
"""

from __future__ import annotations

import builtins
import datetime
import pathlib
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from types import SimpleNamespace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from omnithink_pl.sandbox.inside.prelude import NODE_FIELDS, NODES

SCALARS = frozenset({type(None), bool, int, float, str})


class Immutable(NamedTuple):
    """An immutable type: its value's parts, and the reverse."""

    base: type
    parts: Callable[[Any], Sequence[Any]]
    make: Callable[..., Any]


class Mutable(NamedTuple):
    """A mutable type: what an empty one is made with, its content as a list, and filling with such a list."""

    base: type
    settings: Callable[[Any], Sequence[Any]]
    items: Callable[[Any], list[Any]]
    fill: Callable[[Any, list[Any]], None]


def _calendar(names: str) -> Callable[[Any], Sequence[Any]]:
    return lambda value: [getattr(value, name) for name in names.split()]


def _views(kind: type, make: Callable[..., Any]) -> Immutable:
    return Immutable(kind, list, make)


def _zone(value: ZoneInfo) -> list[str]:
    if value.key is None:
        raise TypeError("a time zone from a file has no name")
    return [value.key]


# By tag. A part is plain data itself.
IMMUTABLE: dict[str, Immutable] = {
    "t": Immutable(tuple, tuple.__iter__, lambda *items: items),  # type: ignore[arg-type]
    "frozen": Immutable(frozenset, frozenset.__iter__, lambda *items: frozenset(items)),  # type: ignore[arg-type]
    "b": Immutable(bytes, lambda value: [bytes.decode(value, "latin-1")], lambda text: text.encode("latin-1")),
    "complex": Immutable(complex, lambda value: [value.real, value.imag], complex),
    "range": Immutable(range, lambda value: [value.start, value.stop, value.step], range),
    "slice": Immutable(slice, lambda value: [value.start, value.stop, value.step], slice),
    "ellipsis": Immutable(type(...), lambda value: [], lambda: ...),
    "decimal": Immutable(Decimal, lambda value: [Decimal.__str__(value)], Decimal),
    "fraction": Immutable(Fraction, lambda value: [value.numerator, value.denominator], Fraction),
    "datetime": Immutable(
        datetime.datetime,
        _calendar("year month day hour minute second microsecond tzinfo fold"),
        lambda *parts: datetime.datetime(*parts[:-1], fold=parts[-1]),
    ),
    "date": Immutable(datetime.date, _calendar("year month day"), datetime.date),
    "time": Immutable(
        datetime.time,
        _calendar("hour minute second microsecond tzinfo fold"),
        lambda *parts: datetime.time(*parts[:-1], fold=parts[-1]),
    ),
    "timedelta": Immutable(datetime.timedelta, _calendar("days seconds microseconds"), datetime.timedelta),
    "timezone": Immutable(datetime.timezone, datetime.timezone.__getinitargs__, datetime.timezone),  # type: ignore[attr-defined]
    "zone": Immutable(ZoneInfo, _zone, ZoneInfo),
    "path": Immutable(pathlib.PosixPath, lambda value: [str(value)], pathlib.PosixPath),
    "pure path": Immutable(pathlib.PurePosixPath, lambda value: [str(value)], pathlib.PurePosixPath),
    "windows path": Immutable(pathlib.PureWindowsPath, lambda value: [str(value)], pathlib.PureWindowsPath),
    "uuid": Immutable(uuid.UUID, lambda value: [value.hex], uuid.UUID),
    "keys": _views(type({}.keys()), lambda *items: dict.fromkeys(items).keys()),
    "values": _views(type({}.values()), lambda *items: dict(enumerate(items)).values()),
    "items": _views(type({}.items()), lambda *items: dict(items).items()),
}
IMMUTABLE_TAGS = {kind.base: tag for tag, kind in IMMUTABLE.items()}
HOLDERS = frozenset({"t", "frozen", "keys", "values", "items"})  # whose parts may be any values
# Bases whose instances keep their value where a program derives a class from them.
VALUE_BASES = (
    *(int, float, str, bytes, tuple, frozenset, complex, Decimal, Fraction),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
)


def _fill(clear: Callable[[Any], None], extend: Callable[[Any, list[Any]], Any]) -> Callable[[Any, list[Any]], None]:
    def fill(target: Any, items: list[Any]) -> None:
        clear(target)
        extend(target, items)

    return fill


def _mapping(base: Any, settings: Callable[[Any], Sequence[Any]] = lambda value: []) -> Mutable:
    def fill(target: Any, items: list[Any]) -> None:
        base.clear(target)
        for key, item in zip(items[::2], items[1::2], strict=True):  # not ``update``, with which a Counter counts
            base.__setitem__(target, key, item)

    return Mutable(base, settings, lambda value: list(chain.from_iterable(base.items(value))), fill)


def _sequence(base: Any, extend: Any, settings: Callable[[Any], Sequence[Any]] = lambda value: []) -> Mutable:
    return Mutable(base, settings, lambda value: list(base.__iter__(value)), _fill(base.clear, extend))


def _bytes(target: bytearray, items: list[Any]) -> None:
    target[:] = items[0]


def _array(target: array[Any], items: list[Any]) -> None:
    del target[:]
    target.frombytes(items[0])


def _attributes(target: Any, items: list[Any]) -> None:
    names = dict(zip(items[::2], items[1::2], strict=True))
    for name in attributes(target).keys() - names.keys():
        delattr(target, name)
    for name, item in names.items():
        setattr(target, name, item)


def _node(target: Any, items: list[Any]) -> None:
    for name, item in zip(items[::2], items[1::2], strict=True):
        if name not in NODE_FIELDS:
            raise ValueError(f"a node has no field {name!r}")
        setattr(target, name, item)


def _flat(values: Mapping[str, Any]) -> list[Any]:
    return list(chain.from_iterable(values.items()))


MUTABLE: dict[str, Mutable] = {
    "list": _sequence(list, list.extend),
    "dict": _mapping(dict),
    "set": _sequence(set, set.update),
    "deque": _sequence(deque, deque.extend, lambda value: [[], value.maxlen]),
    "bytearray": Mutable(bytearray, lambda value: [], lambda value: [bytes(value)], _bytes),
    "array": Mutable(array, lambda value: [value.typecode], lambda value: [value.tobytes()], _array),
    "counter": _mapping(Counter),
    "ordered": _mapping(OrderedDict),
    "default": _mapping(defaultdict, lambda value: [value.default_factory]),
    "namespace": Mutable(SimpleNamespace, lambda value: [], lambda value: _flat(vars(value)), _attributes),
    **{
        name: Mutable(kind, lambda value: [], lambda value: _flat(attributes(value)), _node)
        for name, kind in NODES.items()
    },
}
MUTABLE_TAGS = {kind.base: tag for tag, kind in MUTABLE.items()}
# The most special base first: a Counter is a dict, too.
MUTABLE_BASES = tuple(MUTABLE[tag].base for tag in ["counter", "ordered", "default", "dict", "list", "set", "deque"])
# Types that cross as themselves, but for those whose instances are no data.
_OBJECTS = {map, filter, zip, enumerate, reversed, property, classmethod, staticmethod, memoryview, super, object}
TYPES: dict[str, type] = {
    **{name: value for name, value in vars(builtins).items() if isinstance(value, type) and value not in _OBJECTS},
    **{f"{kind.__module__}.{kind.__name__}": kind for kind in (*IMMUTABLE_TAGS, *MUTABLE_TAGS)},
}
TYPE_NAMES = {value: name for name, value in TYPES.items()}

_MADE_ANEW = {bytes, tuple, str}  # by reading a content, so that their identity says nothing


def is_same(items: Sequence[Any], before: Sequence[Any]) -> bool:
    """Return whether the contents of a container, at two times, are the same objects in the same order."""
    if len(items) != len(before):
        return False
    return all(
        one is two or (type(one) is type(two) and type(one) in _MADE_ANEW and one == two)
        for one, two in zip(items, before, strict=True)
    )


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance, of a class with or without slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots: str | Iterable[str] = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def is_node(value: Any) -> bool:
    """Return whether a value is a node of a linked structure that has fields, but nothing else of its own."""
    own = {name for name, item in vars(type(value)).items() if callable(item) or isinstance(item, property)}
    return own <= {"__init__"} and attributes(value).keys() <= NODE_FIELDS
