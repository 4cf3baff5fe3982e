"""Remote calls between a test and the program that it tests, which run in different boxes.

Both ends are alike: either requests an action on an object of the other, and may have to handle requests itself while
it waits (a test that hands over a function). What they share stays the same at both ends
(:mod:`~omnithink_pl.sandbox.inside.memory`), and objects that are no plain data have counterparts
(:mod:`~omnithink_pl.sandbox.inside.remote`).

The ends trust each other differently. A test requests whatever it likes of a program. A program calls and iterates what
the test handed over, and uses the public attributes and the operators of instances of the test's own classes. A test
that does what cannot be done across two processes has no verdict (:meth:`Connection.give_up`).
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, GeneratorType
from typing import Any

from omnithink_pl.sandbox.inside.actions import ACTIONS, BINARY, COMPARE, CONVERT, IN_PLACE, OPERATORS
from omnithink_pl.sandbox.inside.coroutines import Coroutines
from omnithink_pl.sandbox.inside.describe import describe, error_class, find, is_method, shared_error
from omnithink_pl.sandbox.inside.frames import LENGTH, MAX_BYTES, Message, exactly
from omnithink_pl.sandbox.inside.memory import Encode, Memory
from omnithink_pl.sandbox.inside.prelude import NODES
from omnithink_pl.sandbox.inside.remote import Remote, RemoteMethod, RemoteType, coroutine, make_class
from omnithink_pl.sandbox.inside.streams import replaced_streams, replacing_streams
from omnithink_pl.sandbox.inside.trust import Trust

# Raised by reading what no end writes.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
_OF_FUNCTIONS = {"call", "iter", "next", "start", "step", "cancel", "result"}  # what a program may do with anything
_OF_INSTANCES = {*BINARY, *IN_PLACE, *COMPARE, *CONVERT, *OPERATORS} | {
    *(
        "getattr",
        "setattr",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "len",
        "repr",
        "str",
        "hash",
        "exit",
        "format",
    ),
}
# Modules whose instances are open to a program that a test hands them to, but for private attributes.
_OPEN_MODULES = {
    *("__main__", "unittest.mock", "_io", "io", "random", "_random", "queue", "_queue", "threading", "_thread"),
    *("asyncio.queues", "asyncio.locks", "re", "argparse", "csv", "_csv", "itertools", "string"),
}
_OPEN_NAMES = {
    FunctionType: {"__name__", "__qualname__", "__doc__", "__module__"},
    GeneratorType: {"send", "throw", "close"},
}
_STOPS = (StopIteration, StopAsyncIteration, GeneratorExit)
_MAY_STOP = {"next": StopIteration, "result": StopAsyncIteration}


class ConnectionLost(BaseException):
    """The other end is gone; not an ``Exception``, so that no test can swallow it."""


class Malformed(ConnectionLost):
    """The other end sent what no end sends."""


class Undefined(BaseException):
    """A test does what cannot be done across two processes."""


class Connection:
    """One end of a connection, over the file descriptor of a stream socket.

    Args:
        channel: The file descriptor.
        names: Names that the other end may look up, or that were looked up there; nodes are made of their classes.
        trust: At the test's end, what is known of the program's objects; ``None`` at the program's end.
    """

    def __init__(self, channel: int, names: dict[str, Any], trust: Trust | None = None) -> None:
        self._channel, self._names = channel, names
        self._is_test, self._trust = trust is not None, trust or Trust()
        first = 0 if self._is_test else 1
        self.memory = Memory(first, describe, self._build, self._substitute, self._resolve, self._node_class)
        self.metaclass: type = type("RemoteType", (RemoteType,), {"_CONNECTION": self})
        self._lent: dict[str, Any] = {}  # names that one end has looked up at the other, and their values
        self.virtual: set[type] = set()  # classes that may have instances which do not derive from them
        self._hashes: dict[int, int] = {}
        self._coroutines = Coroutines()
        self._lock = threading.RLock()
        self.requests = 0
        self.raised: BaseException | None = None  # the last one that the other end was told of
        self.exits: list[BaseException] = []  # SystemExits of the other end
        self.undefined = ""  # why there is no verdict

    def send(self, message: Message) -> None:
        """Send a message; raises ``ConnectionLost`` if the other end has gone, ``ValueError`` if it is too large."""
        data = json.dumps(message).encode()
        if len(data) > MAX_BYTES:
            raise ValueError(f"a message of {len(data)} bytes is too large; at most {MAX_BYTES}")
        unsent = memoryview(LENGTH.pack(len(data)) + data)
        try:
            while unsent:
                unsent = unsent[os.write(self._channel, unsent) :]
        except OSError as error:
            raise ConnectionLost("the other end has gone") from error

    def receive(self) -> Message:
        """Return the next message; raises ``ConnectionLost`` if the other end has gone or sent none."""
        receive_bytes = partial(os.read, self._channel)
        try:
            (size,) = LENGTH.unpack(exactly(LENGTH.size, receive_bytes))
            if size > MAX_BYTES:
                raise ValueError(f"a message of {size} bytes is too large; at most {MAX_BYTES}")
            message = json.loads(exactly(size, receive_bytes))
            if not isinstance(message, dict):
                raise ValueError("a message is a JSON object")
            return message
        except (EOFError, OSError) as error:
            raise ConnectionLost("the other end has gone") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise Malformed(f"malformed message: {error}") from error

    def give_up(self, reason: str) -> Any:
        """Have the test end without a verdict."""
        self.undefined = self.undefined or reason
        raise Undefined(reason)

    def request(self, action: str, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Have the other end perform an action and return the result; what it raises is raised here."""
        with self._lock:
            self.requests += 1
            streams = replaced_streams() if self._is_test else {}
            try:
                message = {"do": action, **self.memory.write([[target, *args], kwargs, streams])}
                self.send(message)
            except (*_MALFORMED, MemoryError) as error:
                self.give_up(f"what the test hands over cannot cross: {error}")
            while "do" in (reply := self.receive()):
                self.handle(reply)
            try:
                result, rebound = self.memory.read(reply)
                self._rebind(rebound)
                raised = self._checked(result, action) if reply.get("raised") is True else None
                self._observe(action, target, args, result)
            except (*_MALFORMED, MemoryError) as error:
                raise Malformed(f"malformed message: {error!r}") from error
        if raised is None:
            return result
        if isinstance(raised, SystemExit):
            self.exits.append(raised)
        try:
            raise raised
        finally:
            del raised, result  # no reference may last longer than the test's own

    def handle(self, message: Message) -> None:
        """Perform an action that the other end requests, and reply."""
        action = message["do"]
        try:
            (target, *args), kwargs, streams = self.memory.read(message)
        except _MALFORMED as error:
            raise Malformed(f"malformed message: {error!r}") from error
        raised = False
        try:
            self._permit(action, target, args)
            with replacing_streams(streams):
                result = self._perform(action, target, args, kwargs)
        except (ConnectionLost, Undefined):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a program raises goes to its test, and the reverse
            result, raised, self.raised = error, True, error
        del target, args, kwargs
        reply = self.memory.write([result, self._rebound()])
        self.send(reply | {"raised": True} if raised else reply)

    def compare(self, action: str, base: Any, is_generated: bool, one: Any, other: Any) -> Any:
        """Compare an object with another, or, where it may be asked, with the test's data."""
        if self.memory.is_reading:
            return NotImplemented if base is None else base(one, other)
        if isinstance(other, Remote) or self._trust.is_under_test(self._number(one)):
            return self.request(action, one, other)
        if base is not None:
            return base(one, other)
        return NotImplemented if is_generated else self._refuse(one, "compares an object of the program with data")

    def operate(self, action: str, base: Any, one: Any, other: Any, exchanged: bool, *rest: Any) -> Any:
        """Combine two objects, of which only ``one`` has to be the other end's, by an arithmetic operator."""
        number, operands = self._number(one), (other, one) if exchanged else (one, other)
        if isinstance(other, Remote) or self._trust.is_under_test(number):
            return self.request(action, *operands, *rest)
        if base is not None:
            return base(one, other, *rest)
        result = self.request(action, *operands, *rest)
        if type(result) is RemoteMethod or not isinstance(result, Remote) or result is other:
            return self._refuse(one, "has an operator of the program turn data into data")
        self._trust.inform(self._number(result))
        return result

    def convert(self, action: str, one: Any, *args: Any) -> Any:
        """Convert an object to a number."""
        if self._trust.is_informed(self._number(one)):
            self._refuse(one, "converts what an operator of the program made of data")
            raise TypeError(f"cannot convert a {type(one).__name__} by {action}")
        return self.request(action, one, *args)

    def contains(self, base: Any, one: Any, item: Any) -> bool:
        """Return whether an object contains an item: by its own word, or by iterating."""
        if isinstance(item, Remote) or isinstance(one, type) or self._trust.is_under_test(self._number(one)):
            return self.request("contains", one, item)
        if base is not None:
            return base(one, item)
        self._refuse(one, "asks an object of the program whether it contains data")
        return any(part is item or part == item for part in one)

    def hash(self, one: Any) -> int:
        """Return an object's hash."""
        number = self.memory.number(one)
        if number in self._hashes:
            return self._hashes[number]
        return self.request("hash", one)

    def look_up(self, name: str) -> Any:
        """Return what the other end has by a name."""
        self._lent[name] = self._names[name] = value = self.fetch(name)
        return value

    def fetch(self, name: str) -> Any:
        """Return what the other end has by a name now."""
        value = self.request("name", name)
        self._trust.name(name, value)
        return value

    def _rebound(self) -> dict[str, Any]:
        """Return the new values of names that the other end has looked up, where this end has bound them anew."""
        changed = {name: self._names[name] for name in self._lent if self._names.get(name) is not self._lent[name]}
        self._lent |= changed
        return changed

    def _rebind(self, rebound: dict[str, Any]) -> None:
        self._names.update({name: value for name, value in rebound.items() if name in self._lent})

    def _number(self, value: Any) -> int | None:
        return self.memory.number(value)

    def _refuse(self, one: Any, reason: str) -> Any:
        """Give up where the test knows the object's class; else the object is none that it can expect."""
        return self.give_up(f"the test {reason}") if self._trust.knows(type(one)) else NotImplemented

    def _observe(self, action: str, target: Any, args: tuple[Any, ...], result: Any) -> None:
        if not self._is_test:
            return
        number = self._number(result)
        if action in OPERATORS:
            self._trust.observe_operation({self._number(target), *map(self._number, args)}, result, number)
        elif action == "call" and isinstance(target, type) and number in self.memory.fresh:
            self._trust.observe_made(target, result, number)
        elif action not in COMPARE:
            self._trust.observe_returned(self.memory.mentioned)

    def _checked(self, error: Any, action: str) -> BaseException:
        """Return an exception of the other end, as it may be raised here.

        Raised by a call, ``StopIteration`` would not fail a test but silently end a loop of it, unless it is expected.
        """
        if not isinstance(error, BaseException):
            raise TypeError("only exceptions are raised")
        stops = isinstance(error, _STOPS) and not isinstance(error, _MAY_STOP.get(action, ()))
        if stops and self._trust.expects(error):
            return error
        if stops or type(error).__module__.startswith("unittest"):  # by the latter a test would be skipped
            return RuntimeError(f"the program raised {type(error).__name__}")
        return error

    def _permit(self, action: Any, target: Any, args: list[Any]) -> None:
        """Raise ``TypeError`` or ``AttributeError`` if the other end may not perform this action."""
        if not self._is_test or action in _OF_FUNCTIONS:
            return
        kind = type(target)
        if action in {"getattr", "setattr"}:
            (name, *_) = args
            if type(name) is not str or not _is_public(kind, name):
                raise AttributeError(f"{name!r} is the test's own")
        elif action not in _OF_INSTANCES or kind.__module__ not in _OPEN_MODULES:
            raise TypeError(f"{action!r} is the test's own")

    def _perform(self, action: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if action == "name":
            self._lent[target] = self._names[target]
            return self._names[target]
        if action in Coroutines.ACTIONS:
            return getattr(self._coroutines, action)(target, *args)
        return ACTIONS[action](target, *args, **kwargs)

    def _build(self, description: list[Any], decode: Encode) -> Any:
        """Return the counterpart of an object of the other end."""
        number, tag, *content = description
        if tag in NODES:
            found = self._names.get(tag, NODES[tag])
            return object.__new__(found if type(found) is type else NODES[tag])
        if tag == "class":
            made = make_class(self, content[0], [decode(base) for base in content[0]["bases"]])
            if content[0]["virtual"]:
                self.virtual.add(made)
            return made
        if tag == "coroutine":
            return coroutine(self, partial(self.memory.objects.__getitem__, number))
        kind = decode(content[0])
        if tag == "error":
            return _error(kind, *map(decode, content[1:]))
        if not isinstance(kind, RemoteType):
            raise TypeError("an object of the other end is of a class of its own")
        if tag == "object" and content[1] is not None:
            self._hashes[number] = int(content[1])
        new: Callable[..., Any] = kind.__new__
        return new(kind, decode(content[1])) if tag == "value" else new(kind)

    def _node_class(self, name: str) -> type | None:
        """Return the class whose nodes are plain data; one of the program's that the test uses by name has none."""
        if self._is_test:
            return NODES[name] if isinstance(self._names.get(name), RemoteType) else self._names.get(name)
        return None if name in self._lent else self._names.get(name, NODES[name])

    def _substitute(self, value: Any, encode: Encode) -> Any:
        """Return how a value is written that is a part of something else."""
        if type(value) is RemoteMethod:
            return {"method": [encode(value.owner), value.name]}
        if isinstance(value, type) and issubclass(value, BaseException) and error_class(value, encode):
            return {"exception": [value.__module__, value.__qualname__]}
        if not self._is_test:
            return {"method": [encode(value.__self__), value.__name__]} if is_method(value) else None
        if isinstance(value, (BuiltinFunctionType, FunctionType, type)) and _is_pythons(value):
            return {"global": [value.__module__, value.__qualname__]}
        return None

    def _resolve(self, tag: str, content: Any, decode: Encode) -> Any:
        if tag == "exception":
            return shared_error(*content)
        if tag == "global" and not self._is_test:
            return find(*content)
        if tag == "method":
            owner, name = self.memory.objects[content[0]["r"]], content[1]  # not decoded: it is not an answer
            if isinstance(owner, (Remote, RemoteType)):
                return RemoteMethod(self, owner, name)
            self._permit("getattr", owner, [name])
            return getattr(owner, name)
        raise ValueError(f"no value has the tag {tag!r}")


def _is_public(kind: type, name: str) -> bool:
    """Return whether a program may use an attribute of a test's object."""
    return name in _OPEN_NAMES.get(kind, ()) or (kind.__module__ in _OPEN_MODULES and not name.startswith("_"))


def _is_pythons(value: Any) -> bool:
    """Return whether a function or a class is of Python's own library, which both ends have."""
    module = value.__module__
    if not isinstance(module, str) or module.partition(".")[0] not in sys.stdlib_module_names or module == "__main__":
        return False
    return find(module, value.__qualname__) is value


def _error(kind: Any, args: Any, state: Any, cause: Any) -> BaseException:
    """Return an exception as the other end has it, but without running its class's own ``__init__``."""
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError("an exception is of an exception's class")
    new: Callable[..., BaseException] = kind.__new__
    error = new(kind, *args)
    if not isinstance(kind, RemoteType) and not issubclass(kind, UnicodeError):
        error = kind(*args) if _takes(kind, args) else error
    error.args = tuple(args)
    for name, value in dict(state).items():
        object.__setattr__(error, name, value)
    error.__cause__ = cause
    return error


def _takes(kind: type[BaseException], args: tuple[Any, ...]) -> bool:
    return kind.__module__ == "builtins" and vars(builtins).get(kind.__name__) is kind and bool(args)
