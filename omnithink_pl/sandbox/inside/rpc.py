"""Remote calls between a test and the program that it tests, which run in different boxes.

Both ends are alike: either requests an action on an object that the other has exported by number, and may have to
handle requests itself while it waits (a test that hands over a function). An end permits only some actions: a
program all of them, a test only calls of what it handed over.

Not covered: live objects. An object without an encoding (:mod:`~omnithink_pl.sandbox.inside.codec`) is a
:class:`RemoteObject`, and an exception arrives as the nearest builtin one.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omnithink_pl.sandbox.inside import codec
from omnithink_pl.sandbox.inside.codec import Decoder, Encoder
from omnithink_pl.sandbox.inside.prelude import NODES

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
# Raised by a call, these would not fail a test but silently end a loop of it.
_CONTROL_FLOW = {"StopIteration", "StopAsyncIteration"}
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


class RemoteObject:
    """Stands for an object of the other end. Compares by identity, so that the other end has no say in it."""

    __slots__ = ("_connection", "_number")

    def __init__(self, connection: Connection, number: int) -> None:
        object.__setattr__(self, "_connection", connection)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object at the other end."""
        return self._connection.request("call", self._number, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in {"__name__", "__doc__", "__qualname__"}:
            raise AttributeError(name)
        return self._connection.request("attribute", self._number, name)

    def __iter__(self) -> RemoteObject:
        return self._connection.request("iterate", self._number)

    def __next__(self) -> Any:
        """Return the next item of an iterator."""
        return self._connection.request("next", self._number)

    def __len__(self) -> int:
        return self._connection.request("length", self._number)

    def __getitem__(self, key: Any) -> Any:
        return self._connection.request("item", self._number, key)

    def __bool__(self) -> bool:
        return self._connection.request("truth", self._number)

    def __str__(self) -> str:
        return self._connection.request("text", self._number)


class Connection:
    """One end of a connection.

    Args:
        channel: File descriptor of a stream socket.
        names: Module-level names here, which the other end may look up and whose node classes are used.
        permitted: Actions that the other end may request.
    """

    def __init__(self, channel: int, names: Mapping[str, Any], permitted: Sequence[str] = tuple(_ACTIONS)) -> None:
        self._channel, self._names, self._permitted = channel, names, permitted
        self._exported: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, RemoteObject] = {}
        self.requests = 0
        self.raised: Exception | None = None  # the last one that the other end was told of

    def send(self, message: codec.Message) -> None:
        """Send a message.

        Raises:
            ConnectionLost: If the other end has gone.
        """
        try:
            codec.write(self._channel, message)
        except OSError as error:
            raise ConnectionLost("the other end has gone") from error

    def receive(self) -> codec.Message:
        """Return the next message.

        Raises:
            ConnectionLost: If the other end has gone, or sent a malformed message.
        """
        try:
            return codec.read(self._channel)
        except (EOFError, OSError) as error:
            raise ConnectionLost("the other end has gone") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ConnectionLost(f"malformed: {error}") from error

    def request(self, action: str, number: int, *args: Any, **kwargs: Any) -> Any:
        """Have the other end perform an action and return the result.

        Where a call returns ``None``, changes that it made to mutable arguments are applied to the originals.

        Raises:
            Exception: Raised by the other end, as the nearest builtin exception.
            ConnectionLost: If the other end has gone, or its reply is malformed.
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
                return self._decoder().decode(reply["value"], reply["table"], known)[0]
        except (*_MALFORMED, MemoryError) as error:
            raise ConnectionLost(f"malformed: {error!r}") from error
        raise raised

    def handle(self, message: codec.Message) -> None:
        """Perform an action that the other end requests, and reply."""
        decoder, action = self._decoder(), message["do"]
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

    def _decoder(self) -> Decoder:
        return Decoder(self._node_class, self._resolve)

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
    if not issubclass(kind, Exception) or issubclass(kind, BaseExceptionGroup):
        kind = RuntimeError
    if name in _CONTROL_FLOW and not (may_stop and name == "StopIteration"):
        kind = RuntimeError
    return kind(*args)
