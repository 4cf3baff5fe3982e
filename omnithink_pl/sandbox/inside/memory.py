"""Objects that two processes share, as if they had one memory.

Only one end runs at a time: the other waits for its message. So every message carries whatever has changed in the
containers that both know, and either end always finds them as plain Python would have left them: arguments that a
program changed, also before it raised; aliases; a list that an object keeps and a later call changes.

Every object has a number, given by the end that has it first (one takes even, the other odd numbers). Encoded values:
scalars stand for themselves; anything else is a JSON object with one key: ``r`` refers to a numbered object, ``type``
names a type, any other is the tag of an immutable value. A message's ``new`` introduces objects, ``set`` has the
content of containers that are new or changed, and ``drop`` the numbers of objects that the sender needs no more.

Not covered: the identity of immutable values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omnithink_pl.sandbox.inside.frames import Message
from omnithink_pl.sandbox.inside.prelude import NODES
from omnithink_pl.sandbox.inside.values import (
    HOLDERS,
    IMMUTABLE,
    IMMUTABLE_TAGS,
    MUTABLE,
    MUTABLE_BASES,
    MUTABLE_TAGS,
    SCALARS,
    TYPE_NAMES,
    TYPES,
    is_node,
    is_same,
)

Encode = Callable[[Any], Any]
_UNREFERENCED = 2  # by the table of objects, and by the question


class Memory:
    """The objects that one end shares with the other.

    Args:
        first: Number of the first object that this end shares, 0 or 1; the other end has the other.
        describe: Describes an object that is no plain data, for the other end to make its counterpart.
        build: Makes the counterpart of an object that the other end describes, from its number and the description.
        substitute: Returns how a value that is no plain data may be written without a number, or ``None``.
        resolve: Reads what the other end's ``substitute`` wrote, from tag and content.
        node_class: Returns the class by this name whose instances cross as plain data, if there is one.
    """

    def __init__(
        self,
        first: int,
        describe: Callable[[Any, Memory], list[Any]],
        build: Callable[[list[Any], Encode], Any],
        substitute: Callable[[Any, Encode], Any],
        resolve: Callable[[str, Any, Encode], Any],
        node_class: Callable[[str], type | None],
    ) -> None:
        self._next, self._parity = first, first
        self._describe, self._build, self._substitute, self._resolve = describe, build, substitute, resolve
        self._node_class = node_class
        self.objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}  # by id
        self._mutable: dict[int, str] = {}  # tag
        self._contents: dict[int, Sequence[Any]] = {}  # as last sent or received
        self._added: list[int] = []  # containers introduced by the message in the making
        self._new: list[Any] = []
        self.mentioned: set[int] = set()  # by the message that was read last
        self.fresh: set[int] = set()  # objects that it introduced
        self.is_reading = False
        self._kinds: dict[type, int] = {}  # classes of objects, where the class itself crosses otherwise

    def number(self, value: Any) -> int | None:
        """Return a shared object's number; ``None`` if it is not shared."""
        return self._numbers.get(id(value))

    def owns(self, number: int) -> bool:
        """Return whether the object with this number is of this end."""
        return number % 2 == self._parity

    def share(self, value: Any) -> int:
        """Give an object a number and register it."""
        number, self._next = self._next, self._next + 2
        self._register(number, value)
        return number

    def write(self, roots: Sequence[Any]) -> Message:
        """Return the part of a message that holds these values and all changes since the last message."""
        self._new, self._added = [], []
        encoded = [self.encode(root) for root in roots]
        changed = []
        remaining = list(self._mutable)
        while remaining:
            for number in remaining:
                target, kind = self.objects[number], MUTABLE[self._mutable[number]]
                items = kind.items(target)
                if number not in self._contents or not is_same(items, self._contents[number]):
                    self._contents[number] = items
                    changed.append([number, [self.encode(item) for item in items]])
            remaining, self._added = [number for number in self._added if number not in self._contents], []
        return {"values": encoded, "new": self._new, "set": changed, "drop": self._release()}

    def read(self, message: Message) -> list[Any]:
        """Return the values of a message after applying its changes."""
        self.mentioned, self.fresh = set(), set()
        with self._reading():
            for number, *description in message["new"]:
                if type(number) is not int or self.owns(number) or number in self.objects or number < 0:
                    raise ValueError(f"{number!r} is no number for a new object")
                self.fresh.add(number)
                self._make(number, description)
            for number, items in message["set"]:
                target, kind = self.objects[number], MUTABLE[self._mutable[number]]
                kind.fill(target, [self.decode(item) for item in items])
                self._contents[number] = kind.items(target)
            values = [self.decode(value) for value in message["values"]]
        for number in message["drop"]:
            self._forget(number)
        return values

    def encode(self, value: Any) -> Any:
        """Return a value as JSON; objects are introduced if they are new."""
        kind = type(value)
        if kind in SCALARS:
            return value
        if (number := self._numbers.get(id(value))) is not None:
            return {"r": number}
        if (tag := IMMUTABLE_TAGS.get(kind)) is not None:
            return {tag: [self.encode(part) for part in IMMUTABLE[tag].parts(value)]}
        if kind is type and value in TYPE_NAMES:
            return {"type": TYPE_NAMES[value]}
        if (substitute := self._substitute(value, self.encode)) is not None:
            return substitute
        return {"r": self._introduce(value)}

    def encode_kind(self, kind: type) -> Any:
        """Return the class of an object as JSON, for the other end to have a counterpart of it."""
        if id(kind) in self._numbers or (kind not in TYPE_NAMES and self._substitute(kind, self.encode) is None):
            return self.encode(kind)
        if kind not in self._kinds:
            self._kinds[kind], self._next = self._next, self._next + 2
            self.objects[self._kinds[kind]] = kind
            self._new.append([self._kinds[kind], *self._describe(kind, self)])
        return {"r": self._kinds[kind]}

    def decode(self, value: Any) -> Any:
        """Return the value that was encoded."""
        if type(value) in SCALARS:
            return value
        ((tag, content),) = value.items()
        if tag == "r":
            self.mentioned.add(content)
            return self.objects[content]
        if tag == "type":
            return TYPES[content]
        if tag not in IMMUTABLE:
            return self._resolve(tag, content, self.decode)
        parts = [self.decode(part) for part in content]
        if tag not in HOLDERS and not all(type(part) in SCALARS or type(part) in IMMUTABLE_TAGS for part in parts):
            raise TypeError(f"a value of the kind {tag!r} consists of plain data")
        return IMMUTABLE[tag].make(*parts)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self.is_reading = True
        try:
            yield
        finally:
            self.is_reading = False

    def _introduce(self, value: Any) -> int:
        kind = type(value)
        number = self.share(value)
        tag = MUTABLE_TAGS.get(kind)
        if tag is None and kind.__name__ in NODES and self._node_class(kind.__name__) is kind and is_node(value):
            tag = kind.__name__
        if tag is not None:
            self._contain(number, tag)
            self._new.append([number, tag, *map(self.encode, MUTABLE[tag].settings(value))])
        elif isinstance(value, MUTABLE_BASES):
            base = next(base for base in MUTABLE_BASES if isinstance(value, base))
            tag = MUTABLE_TAGS[base]
            self._contain(number, tag)
            self._new.append([number, "sub", self.encode_kind(kind), tag])
        else:
            self._new.append([number, *self._describe(value, self)])
        return number

    def _contain(self, number: int, tag: str) -> None:
        self._mutable[number] = tag
        self._added.append(number)

    def _make(self, number: int, description: list[Any]) -> None:
        tag, *content = description
        if tag in MUTABLE:
            self._mutable[number] = tag
            if tag in NODES:
                made = self._build([number, tag], self.decode)
            else:
                made = MUTABLE[tag].base(*map(self.decode, content))
        else:
            made = self._build([number, *description], self.decode)
            if tag == "sub":
                self._mutable[number] = content[1]
                if type(made) is type or not isinstance(made, MUTABLE[content[1]].base):
                    raise TypeError("a container is of another kind than it says")
        self._register(number, made)

    def _register(self, number: int, value: Any) -> None:
        self.objects[number] = value
        self._numbers[id(value)] = number

    def _release(self) -> list[int]:
        """Forget the objects to which nothing here refers any more, but for those that the other end has from here."""
        numbers = list(self.objects)
        unused = [number for number in numbers if sys.getrefcount(self.objects[number]) <= _UNREFERENCED]
        unused = [number for number in unused if not self.owns(number) or self._is_plain(number)]
        for number in unused:
            self._forget(number)
        return unused

    def _is_plain(self, number: int) -> bool:
        """Return whether an object is a container without methods of its owner's."""
        tag = self._mutable.get(number)
        return tag is not None and (tag in NODES or type(self.objects[number]) is MUTABLE[tag].base)

    def _forget(self, number: int) -> None:
        if number in self.objects:
            value = self.objects.pop(number)
            if self._numbers.get(id(value)) == number:
                del self._numbers[id(value)]
            else:
                self._kinds.pop(value, None)
            self._mutable.pop(number, None)
            self._contents.pop(number, None)
