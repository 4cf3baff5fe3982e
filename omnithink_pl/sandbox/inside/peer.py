"""Calls between a test and the program that it tests, which run in different sandboxes.

Both ends are alike: either asks the other to do something with an object that the other has let it know
by number, and while it waits for the answer it may be asked something itself (a test that hands over a
function). What may be asked is a matter of the end's rights: a program answers anything, a test only
calls of functions that it handed over.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omnithink_pl.sandbox.inside import nodes, wire
from omnithink_pl.sandbox.inside.codec import Decoder, Encoder

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
# Raised out of a call, these would not fail a test but end a loop of it early.
_CONTROL = {"StopIteration", "StopAsyncIteration"}


class PeerLost(BaseException):
    """The other end is gone or talks nonsense; not an ``Exception``, so that no test can swallow it."""


class Remote:
    """Stands for an object of the other end. Compares by identity, so that nothing over there is asked."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it there."""
        return self._peer.ask("call", self._number, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in {"__name__", "__doc__", "__qualname__"}:
            raise AttributeError(name)
        return self._peer.ask("attribute", self._number, name)

    def __iter__(self) -> Remote:
        return self._peer.ask("iterate", self._number)

    def __next__(self) -> Any:
        """The next item of an iterator."""
        return self._peer.ask("next", self._number)

    def __len__(self) -> int:
        return self._peer.ask("length", self._number)

    def __getitem__(self, key: Any) -> Any:
        return self._peer.ask("item", self._number, key)

    def __bool__(self) -> bool:
        return self._peer.ask("truth", self._number)

    def __str__(self) -> str:
        return self._peer.ask("text", self._number)


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


class Peer:
    """One end of a channel.

    Args:
        channel: File descriptor of a stream socket.
        names: Module-level names here: what the other end may look up, and whose node classes are used.
        rights: Actions that the other end may ask for.
    """

    def __init__(self, channel: int, names: Mapping[str, Any], rights: Sequence[str] = tuple(_ACTIONS)) -> None:
        self._channel, self._names, self._rights = channel, names, rights
        self._exported: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Remote] = {}
        self.asked = 0
        self.raised: Exception | None = None

    def send(self, message: wire.Message) -> None:
        """Send a message.

        Raises:
            PeerLost: If the other end has gone.
        """
        try:
            wire.put(self._channel, message)
        except OSError as error:
            raise PeerLost("the other end has gone") from error

    def receive(self) -> wire.Message:
        """The next message.

        Raises:
            PeerLost: If the other end has gone, or sent something that is no message.
        """
        try:
            return wire.get(self._channel)
        except (EOFError, OSError) as error:
            raise PeerLost("the other end has gone") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise PeerLost(f"malformed: {error}") from error

    def look_up(self, name: str) -> Any:
        """What a module-level name stands for at the other end."""
        return self.ask("name", 0, name)

    def ask(self, action: str, number: int, *args: Any, **kwargs: Any) -> Any:
        """Have something done at the other end and return the result.

        Where a call returns ``None``, mutable arguments take over what the call made of them.

        Raises:
            Exception: What the other end raised, as the builtin exception it is a kind of.
            PeerLost: If the other end has gone, or its answer makes no sense.
        """
        self.asked += 1
        encoder = Encoder(self._export)
        encoded, table = encoder.encode(*args, kwargs)
        self.send({"do": action, "o": number, "args": encoded, "table": table})
        while "do" in (reply := self.receive()):
            self.answer(reply)
        try:
            if "error" in reply:
                raised = _exception(str(reply["error"]), reply["args"], may_stop=action == "next")
            else:
                known = encoder.objects if action == "call" and reply["value"] == [None] else []
                return self._decoder().decode(reply["value"], reply["table"], known)[0]
        except (*_MALFORMED, MemoryError) as error:
            raise PeerLost(f"malformed: {error!r}") from error
        raise raised

    def answer(self, message: wire.Message) -> None:
        """Do what the other end asks."""
        decoder = self._decoder()
        try:
            target = self._target(message)
            *args, kwargs = decoder.decode(message["args"], message["table"])
        except _MALFORMED as error:
            raise PeerLost(f"malformed: {error!r}") from error
        try:
            result = _ACTIONS[message["do"]](target, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a program raises goes to its test, and the reverse
            self.raised = error
            self.send({"error": _builtin_name(error), "args": _plain(error.args)})
            return
        known = decoder.objects if message["do"] == "call" and result is None else []
        try:
            value, table = Encoder(self._export, known).encode(result)
            self.send({"value": value, "table": table})
        except (ValueError, RecursionError, MemoryError) as error:
            self.raised = error
            self.send({"error": type(error).__name__, "args": _plain(error.args)})

    def _target(self, message: wire.Message) -> Any:
        if message["do"] not in self._rights:
            raise ValueError(f"no right to {message['do']!r}")
        return self._names if message["do"] == "name" else self._exported[message["o"]]

    def _export(self, value: Any) -> int:
        if type(value) is Remote and value._peer is self:
            return -1 - value._number  # negative: what the other end itself exported
        number = self._numbers.setdefault(id(value), len(self._exported))
        if number == len(self._exported):
            self._exported.append(value)
        return number

    def _resolve(self, number: int) -> Any:
        if number < 0:
            return self._exported[-1 - number]
        return self._remotes.setdefault(number, Remote(self, number))

    def _decoder(self) -> Decoder:
        return Decoder(self._node_class, self._resolve)

    def _node_class(self, name: str) -> type:
        found = self._names.get(name)
        return found if isinstance(found, type) else getattr(nodes, name)


def _builtin_name(error: Exception) -> str:
    """The nearest builtin exception that an exception is a kind of."""
    for kind in type(error).__mro__:
        if vars(builtins).get(kind.__name__) is kind:
            return kind.__name__
    return "Exception"


def _plain(args: Sequence[Any]) -> list[Any]:
    return [item if type(item) in {int, float, bool} else str(item)[:1000] for item in args][:5]


def _exception(name: str, args: Sequence[Any], may_stop: bool) -> Exception:
    kind = vars(builtins)[name]
    if not issubclass(kind, Exception) or issubclass(kind, UnicodeError | BaseExceptionGroup):
        kind = ValueError if issubclass(kind, UnicodeError) else RuntimeError
    if name in _CONTROL and not (may_stop and name == "StopIteration"):
        kind = RuntimeError
    return kind(*args)
