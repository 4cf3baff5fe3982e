"""Remote calls between a test and the program that it tests, which run in different boxes.

Both ends are alike: either requests an action on an object that the other has exported by number, and may have to
handle requests itself while it waits (a test that hands over a function). An end permits only some actions: a
program all of them, a test only calls of what it handed over.

An object without an encoding (:mod:`~omnithink_pl.sandbox.inside.codec`) is a :class:`RemoteObject` at the other end.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from omnithink_pl.sandbox.inside.codec import LENGTH, MAX_BYTES, Decoder, Encoder, Message, exactly
from omnithink_pl.sandbox.inside.prelude import NODES

# Raised by a Decoder for what no Encoder makes.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)

_ACTIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, *args, **kwargs: target(*args, **kwargs),
    "attribute": getattr,
    "iterate": iter,
    "next": next,
    "length": len,
    "item": lambda target, key: target[key],
    "truth": bool,
    "text": str,
    "name": lambda names, name: names[name],
}


class ConnectionLost(BaseException):
    """The other end is gone or sent a malformed message; not an ``Exception``, so that no test can swallow it."""


def _remote(action: str) -> Callable[..., Any]:
    """Return a method that has the other end perform an action on its object."""
    return lambda self, *args, **kwargs: self._connection.request(action, self._number, *args, **kwargs)


class RemoteObject:
    """Stands for an object of the other end. Compares by identity, so that the other end has no say in it."""

    __slots__ = ("_connection", "_number")

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self._number = connection, number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in {"__name__", "__doc__", "__qualname__"}:
            raise AttributeError(name)
        return self._connection.request("attribute", self._number, name)

    __call__ = _remote("call")
    __iter__ = _remote("iterate")
    __next__ = _remote("next")
    __len__ = _remote("length")
    __getitem__ = _remote("item")
    __bool__ = _remote("truth")
    __str__ = _remote("text")


class Connection:
    """One end of a connection, over the file descriptor of a stream socket.

    The other end may look up the names and request the permitted actions; nodes are made of the names' classes.
    """

    def __init__(self, channel: int, names: Mapping[str, Any], permitted: Sequence[str] = tuple(_ACTIONS)) -> None:
        self._channel, self._names, self._permitted = channel, names, permitted
        self._exported: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, RemoteObject] = {}
        self.requests = 0
        self.raised: Exception | None = None  # the last one that the other end was told of

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
        """Return the next message; raises ``ConnectionLost`` if the other end has gone or sent a malformed one."""
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
            raise ConnectionLost(f"malformed: {error}") from error

    def request(self, action: str, number: int, *args: Any, **kwargs: Any) -> Any:
        """Have the other end perform an action and return the result.

        Where a call returns ``None``, changes that it made to mutable arguments are applied to the originals. What it
        raises is raised here, as the nearest builtin exception.
        """
        self.requests += 1
        encoder = Encoder(self._export)
        encoded, table = encoder.encode(*args, kwargs)
        self.send({"do": action, "o": number, "args": encoded, "table": table})
        while "do" in (reply := self.receive()):
            self.handle(reply)
        try:
            if "error" in reply:
                raised = _exception(str(reply["error"]), reply["args"], may_stop=action == "next")
            else:
                known = encoder.objects if action == "call" and reply["value"] == [None] else []
                return Decoder(self._node_class, self._resolve).decode(reply["value"], reply["table"], known)[0]
        except (*_MALFORMED, MemoryError) as error:
            raise ConnectionLost(f"malformed: {error!r}") from error
        raise raised

    def handle(self, message: Message) -> None:
        """Perform an action that the other end requests, and reply."""
        decoder, action = Decoder(self._node_class, self._resolve), message["do"]
        try:
            if action not in self._permitted:
                raise ValueError(f"{action!r} is not permitted")
            target = self._names if action == "name" else self._exported[message["o"]]
            *args, kwargs = decoder.decode(message["args"], message["table"])
        except _MALFORMED as error:
            raise ConnectionLost(f"malformed: {error!r}") from error
        try:
            result = _ACTIONS[action](target, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a program raises goes to its test, and the reverse
            self._reply_error(error, _builtin_name(error))
            return
        known = decoder.objects if action == "call" and result is None else []
        try:
            value, table = Encoder(self._export, known).encode(result)
            self.send({"value": value, "table": table})
        except (ValueError, RecursionError, MemoryError) as error:
            self._reply_error(error, type(error).__name__)

    def _reply_error(self, error: Exception, name: str) -> None:
        self.raised = error
        args = [item if type(item) in {int, float, bool} else str(item)[:1000] for item in error.args]
        self.send({"error": name, "args": args[:5]})

    def _export(self, value: Any) -> int:
        if type(value) is RemoteObject and value._connection is self:
            return -1 - value._number  # negative: exported by the other end itself
        number = self._numbers.setdefault(id(value), len(self._exported))
        if number == len(self._exported):
            self._exported.append(value)
        return number

    def _resolve(self, number: int) -> Any:
        if number < 0:
            return self._exported[-1 - number]
        return self._remotes.setdefault(number, RemoteObject(self, number))

    def _node_class(self, name: str) -> type:
        found = self._names.get(name)
        return found if isinstance(found, type) else NODES[name]


def _builtin_name(error: Exception) -> str:
    """Return the name of the nearest builtin exception that an exception is a kind of."""
    names = (kind.__name__ for kind in type(error).__mro__ if vars(builtins).get(kind.__name__) is kind)
    return next(names, "Exception")


def _exception(name: str, args: Sequence[Any], may_stop: bool) -> Exception:
    kind = vars(builtins)[name]
    if issubclass(kind, UnicodeError):  # its own take five arguments
        kind = ValueError
    # Raised by a call, StopIteration would not fail a test but silently end a loop of it.
    stops = issubclass(kind, (StopIteration, StopAsyncIteration)) and not (may_stop and kind is StopIteration)
    if stops or not issubclass(kind, Exception) or issubclass(kind, BaseExceptionGroup):
        kind = RuntimeError
    return kind(*args)
