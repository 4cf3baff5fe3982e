"""Descriptions of an end's own objects and classes, from which the other end makes their counterparts."""

from __future__ import annotations

import sys
from abc import ABCMeta
from collections.abc import Callable
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any

from omnithink_pl.sandbox.inside.actions import SPECIAL
from omnithink_pl.sandbox.inside.values import MUTABLE_BASES, TYPE_NAMES, VALUE_BASES

if TYPE_CHECKING:
    from omnithink_pl.sandbox.inside.memory import Memory

Encode = Callable[[Any], Any]
# Exceptions of these modules are theirs at the other end, too; of any other they are the nearest builtin. Not those of
# unittest: a program could skip its test.
_ERROR_MODULES = {
    *("builtins", "json.decoder", "decimal", "asyncio.exceptions", "_queue", "queue", "statistics", "struct", "re"),
    *("binascii", "dataclasses", "zoneinfo._common", "concurrent.futures._base", "graphlib", "csv", "_csv", "copy"),
    *("asyncio.queues", "socket", "subprocess", "enum", "zlib", "string", "uuid", "array", "threading", "sqlite3"),
}


def describe(value: Any, memory: Memory) -> list[Any]:
    """Return a description of an object that is no plain data."""
    kind, encode = type(value), memory.encode
    if isinstance(value, type):
        return ["class", describe_class(value, encode)]
    if isinstance(value, BaseException):
        cause = value.__cause__ if isinstance(value.__cause__, Exception) else None
        state = {name: item for name, item in vars(value).items() if not name.startswith("__")}
        args = (value.message, value.exceptions) if isinstance(value, BaseExceptionGroup) else value.args
        return ["error", encode(kind), *map(encode, (args, state, cause))]
    if kind is CoroutineType:
        return ["coroutine"]
    for base in VALUE_BASES:
        if isinstance(value, base):
            return ["value", memory.encode_kind(kind), encode(base_value(value, base))]
    return ["object", memory.encode_kind(kind), _hash(value)]


def base_value(value: Any, base: Any) -> Any:
    """Return an instance of a derived class as one of its base, by the base's own methods."""
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case tuple() | frozenset():
            return base(base.__iter__(value))
        case bytes():
            return bytes.join(b"", [value])
        case complex():
            return complex(value.real, value.imag)
    made, arguments = base.__reduce_ex__(value, 2)[:2]
    return base(*arguments[1 if made.__name__ == "__newobj__" else 0 :])


def error_class(kind: type, encode: Encode) -> Any:
    """Return an exception class that both ends have, or ``None``."""
    return kind if kind.__module__ in _ERROR_MODULES and find(kind.__module__, kind.__qualname__) is kind else None


def find(module: str, name: str) -> Any:
    """Return an object of a module that is imported, by its qualified name; ``None`` if there is none."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def shared_error(module: Any, name: Any) -> type[BaseException]:
    """Return an exception class that the other end names."""
    found = find(module, name) if module in _ERROR_MODULES else None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise ValueError(f"there is no exception {module}.{name}")
    return found


def describe_class(kind: type, encode: Encode) -> dict[str, Any]:
    """Return what the counterpart of a class needs to know."""
    base = next((base for base in (*VALUE_BASES, *MUTABLE_BASES) if issubclass(kind, base)), object)
    own = [part for part in kind.__mro__ if part not in base.__mro__]
    if issubclass(kind, BaseException):
        own = [part for part in kind.__mro__ if part.__module__ != "builtins"]
    names = {name for part in own for name in vars(part)}
    is_data = base is not object or issubclass(kind, BaseException)
    fields = getattr(kind, "__dataclass_fields__", None)
    return {
        "name": kind.__name__,
        "qualname": kind.__qualname__,
        "module": kind.__module__,
        "bases": [encode(base) for base in _bases(kind)],
        "special": [name for name in SPECIAL if (name in names if is_data else _has(kind, name))],
        "names": [name for name in names if is_data and not name.startswith("__")],
        "generated": _has_generated_equality(kind),
        "unhashable": kind.__hash__ is None,
        "fields": list(kind._fields) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None,
        "dataclass": list(fields) if isinstance(fields, dict) else None,
        "virtual": isinstance(kind, ABCMeta) or issubclass(kind, type),
        "meta": [name for name in SPECIAL if hasattr(type(kind), name) and not hasattr(type, name)],
    }


def _has(kind: type, name: str) -> bool:
    found = getattr(kind, name, None)
    return (found is not None and found is not getattr(object, name, None)) or name in {"__copy__", "__deepcopy__"}


def _bases(kind: type) -> list[type]:
    """Return the nearest bases that count at the other end: the program's own, plain data, exceptions."""
    found: list[type] = []
    for base in kind.__bases__:
        if base.__module__ in {"__main__", "solution"}:
            found.append(base)
            continue
        for part in base.__mro__:
            is_error = issubclass(part, BaseException) and error_class(part, None) is not None  # type: ignore[arg-type]
            if part is not object and (part in TYPE_NAMES or is_error):
                found.append(part)
                break
    return [base for base in found if not any(other is not base and issubclass(other, base) for other in found)]


def _has_generated_equality(kind: type) -> bool:
    """Return whether instances compare as a dataclass has them compare: never equal to anything else."""
    for part in kind.__mro__:
        if "__eq__" in vars(part):
            code = getattr(vars(part)["__eq__"], "__code__", None)
            return hasattr(part, "__dataclass_params__") and code is not None and code.co_filename == "<string>"
    return False


def _hash(value: Any) -> int | None:
    own = getattr(type(value), "__hash__", None)
    if own is None or own is object.__hash__:
        return None
    try:
        return hash(value)
    except TypeError:  # a part of it is unhashable
        return None


def is_method(value: Any) -> bool:
    """Return whether a value is a method that its object has by that name."""
    if type(value) is not MethodType:
        return False
    return getattr(value.__self__, value.__name__, None) == value
