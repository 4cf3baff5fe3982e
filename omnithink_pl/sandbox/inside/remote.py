"""Counterparts, at one end, of the other end's objects: of each class a local class, with the special methods it has.

An instance has no state here: whatever is done to it is requested from the other end. Where a class derives from plain
data (a namedtuple, a list with further methods, an exception), its counterpart does so, too, and holds the value;
then the base's own methods judge it, and the other end's have no say unless :mod:`~omnithink_pl.sandbox.inside.trust`
permits it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from omnithink_pl.sandbox.inside.actions import AWAITED, BINARY, COMPARE, CONVERT, IN_PLACE, OTHER
from omnithink_pl.sandbox.inside.describe import find

_PATIENT_AFTER = 20  # questions whether a coroutine has ended, before pausing between them
_PAUSE = 0.001  # seconds
_TYPES = {kind.__name__: kind for kind in vars(types).values() if isinstance(kind, type)}


class Connection(Protocol):
    """What counterparts need of :class:`omnithink_pl.sandbox.inside.rpc.Connection`."""

    metaclass: type  # of the counterparts of classes
    virtual: Any  # classes that may have instances which do not derive from them

    def request(self, action: str, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Have the other end perform an action."""

    def operate(self, action: str, base: Any, one: Any, other: Any, exchanged: bool, *rest: Any) -> Any:
        """Combine two objects."""

    def compare(self, action: str, base: Any, is_generated: bool, one: Any, other: Any) -> Any:
        """Compare two objects."""

    def convert(self, action: str, one: Any, *args: Any) -> Any:
        """Convert an object to a number."""

    def contains(self, base: Any, one: Any, item: Any) -> bool:
        """Tell whether an object contains an item."""

    def hash(self, one: Any) -> int:
        """Return an object's hash."""

    def give_up(self, reason: str) -> Any:
        """End the test without a verdict."""


class Remote:
    """Base of all counterparts."""

    __slots__ = ()


class RemoteMethod(Remote):
    """A method of an object of the other end; like Python's own it is equal to another look-up of it."""

    __slots__ = ("_connection", "name", "owner")

    def __init__(self, connection: Connection, owner: Any, name: str) -> None:
        self._connection, self.owner, self.name = connection, owner, name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self._connection.request("call", self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._connection.request("getattr", self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return types.MethodType

    def __eq__(self, other: object) -> bool:
        return type(other) is RemoteMethod and (self.owner, self.name) == (other.owner, other.name)

    def __hash__(self) -> int:
        return hash((id(self.owner), self.name))


class Overriding:
    """An attribute of the other end's class, which that of its plain base would hide here."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name

    def __get__(self, instance: Any, kind: type) -> Any:
        return self._connection.request("getattr", kind if instance is None else instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        self._connection.request("setattr", instance, self._name, value)


class RemoteType(type):
    """Metaclass of the counterparts of classes; ``_CONNECTION`` belongs to each class of it."""

    _CONNECTION: Connection

    def __call__(cls, /, *args: Any, **kwargs: Any) -> Any:
        """Make an instance, at the other end."""
        return cls._CONNECTION.request("call", cls, *args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name in {"__isabstractmethod__", "__abstractmethods__", "__wrapped__", "__text_signature__"}:
            raise AttributeError(name)
        return cls._CONNECTION.request("getattr", cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        cls._CONNECTION.request("setattr", cls, name, value)

    def __dir__(cls) -> list[str]:
        return cls._CONNECTION.request("dir", cls)

    def __instancecheck__(cls, instance: Any) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        return cls in cls._CONNECTION.virtual and cls._CONNECTION.request("isinstance", instance, cls)

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> Any:
        """Make a counterpart; a class statement of a test cannot."""
        if "__counterpart__" not in namespace:
            return mcs._CONNECTION.give_up(f"the test derives its class {name} from one of the program's")
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> None:
        super().__init__(name, bases, namespace)


def make_class(connection: Connection, content: dict[str, Any], bases: list[Any]) -> type:
    """Return the counterpart of a class as :func:`~omnithink_pl.sandbox.inside.describe.describe_class` has it."""
    bases = [base for base in bases if isinstance(base, type)]
    if not any(issubclass(base, Remote) for base in bases):
        bases.insert(0, Remote)
    if any(_derives_again(base, bases) for base in bases):
        bases = [base for base in bases if not _derives_again(base, bases)]
    data = next((base for base in bases if base is not Remote and not issubclass(base, Remote)), None)
    data = data or next((base for base in bases for base in base.__mro__ if _is_data(base)), None)
    holds_value = data is not None
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__counterpart__": True,
        "__module__": content["module"],
        "__qualname__": content["qualname"],
        "__doc__": Overriding(connection, "__doc__"),
        "__reduce_ex__": lambda self, protocol: connection.give_up("the test pickles an object of the program"),
        "__deepcopy__": lambda self, memo: connection.request("deepcopy", self),
        "__copy__": lambda self: connection.request("copy", self),
    }
    if data is not None and issubclass(data, BaseException):
        del namespace["__slots__"]
        namespace["__getattr__"] = lambda self, name: _error_attribute(connection, self, name)
    else:
        namespace |= _attributes(connection, holds_value)
    for name in content["names"]:
        namespace[name] = Overriding(connection, name)
    for name in content["special"]:
        namespace[name] = special_method(connection, name, data, bool(content["generated"]))
    if "__eq__" in namespace or content["unhashable"]:
        namespace["__hash__"] = None if content["unhashable"] else lambda self: connection.hash(self)
    if content["fields"] is not None:
        namespace |= _tuple_fields(tuple(content["fields"]))
    if content["dataclass"] is not None:  # dataclasses.asdict and the like look at these only
        made: Any = dataclasses.make_dataclass("_", content["dataclass"], init=False, repr=False, eq=False)
        namespace["__dataclass_fields__"] = made.__dataclass_fields__
    if (original := _original(content)) is not None and not holds_value:
        namespace["__class__"] = property(lambda self: original)
    made_class = _metaclass(connection, content, bases)(content["name"], tuple(bases), namespace)
    if "__slots__" in namespace:
        type.__delattr__(made_class, "__slots__")  # it may have others at the other end
    return made_class


def _metaclass(connection: Connection, content: dict[str, Any], bases: list[Any]) -> Any:
    """Return the metaclass of a counterpart, with the special methods of the class itself."""
    parents = {type(base): None for base in bases if issubclass(type(base), RemoteType)} or {connection.metaclass: None}
    if not content["meta"] and len(parents) == 1:
        return next(iter(parents))
    methods = {name: special_method(connection, name, None, False) for name in content["meta"]}
    parents = {kind: None for kind in parents if not _derives_again(kind, list(parents))}
    return type("RemoteType", tuple(parents), methods)


def coroutine(connection: Connection, target: Callable[[], Any], method: str = "await", *args: Any) -> Any:
    """Return a coroutine here that has one of the other end run to its end, step by step with all others."""

    async def run() -> Any:
        task, asked = connection.request("start", target(), method, *args), 0
        try:
            while not connection.request("step", task):
                asked += 1
                await asyncio.sleep(0 if asked < _PATIENT_AFTER else _PAUSE)
        except asyncio.CancelledError:
            connection.request("cancel", task)
            while not connection.request("step", task):
                await asyncio.sleep(0)
        return connection.request("result", task)

    return run()


def special_method(connection: Connection, name: str, data: type | None, is_generated: bool) -> Any:
    """Return a special method that requests its action; ``data`` is the plain base that it overrides, if any."""
    base = getattr(data, name, None) if data is not None else None
    for action, own in COMPARE.items():
        if name == own:
            return lambda self, other: connection.compare(action, base, is_generated, self, other)
    for action, (own, reflected) in BINARY.items():
        if name == own:
            return lambda self, other, *rest: connection.operate(action, base, self, other, False, *rest)
        if name == reflected:
            return lambda self, other, *rest: connection.operate(action, base, self, other, True, *rest)
    for action, own in IN_PLACE.items():
        if name == own:
            return lambda self, other: connection.operate(action, base, self, other, False)
    for action, own in CONVERT.items():
        if name == own:
            return lambda self, *args: connection.convert(action, self, *args)
    for action, own in AWAITED.items():
        if name == own:
            return _awaited(connection, action)
    if name == "__aiter__":
        return lambda self: self
    if name == "__contains__":
        return lambda self, item: connection.contains(base, self, item)
    if name == "__exit__":
        return lambda self, kind, error, traceback: connection.request("exit", self, error)
    if name == "__hash__":
        return lambda self: connection.hash(self)
    if name == "__dir__":
        return lambda self: connection.request("dir", self)
    for action, own in OTHER.items():
        if name == own:
            return lambda self, /, *args, **kwargs: connection.request(action, self, *args, **kwargs)
    # Of those that have no action: the method itself.
    return lambda self, *args: connection.request("call", connection.request("getattr", self, name), *args)


def _awaited(connection: Connection, action: str) -> Any:
    def ask(self: Any, *args: Any) -> Coroutine[Any, Any, Any]:
        if action == "aexit":
            args = args[1:2]
        return coroutine(connection, lambda: self, action, *args)

    def wait(self: Any) -> Iterator[Any]:
        return ask(self).__await__()

    return wait if action == "await" else ask


def _attributes(connection: Connection, holds_value: bool) -> dict[str, Any]:
    methods: dict[str, Any] = {
        "__getattr__": lambda self, name: connection.request("getattr", self, name),
        "__setattr__": lambda self, name, value: connection.request("setattr", self, name, value),
        "__delattr__": lambda self, name: connection.request("delattr", self, name),
        "__dir__": lambda self: connection.request("dir", self),
    }
    if not holds_value:
        methods["__dict__"] = property(lambda self: connection.request("getattr", self, "__dict__"))
    return methods


def _error_attribute(connection: Connection, error: BaseException, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return connection.request("getattr", error, name)


def _tuple_fields(fields: tuple[str, ...]) -> dict[str, Any]:
    """Return what a namedtuple has, but for methods that make others of its class."""
    places: dict[str, Any] = {name: property(operator.itemgetter(place)) for place, name in enumerate(fields)}
    return places | {"_fields": fields, "_asdict": lambda self: dict(zip(fields, self, strict=True))}


def _is_data(kind: type) -> bool:
    return kind not in (object, Remote) and not issubclass(kind, Remote)


def _derives_again(base: type, bases: list[Any]) -> bool:
    return any(other is not base and issubclass(other, base) for other in bases)


def _original(content: dict[str, Any]) -> Any:
    """Return the class of Python's own library that a counterpart passes for, where a test asks for its class."""
    if content["module"] in {"__main__", "solution"}:
        return None
    found = _TYPES.get(content["name"]) if content["module"] == "builtins" else None
    found = found or find(str(content["module"]), str(content["qualname"]))
    return found if isinstance(found, type) else None
