"""Standard streams and ``input`` that a test has replaced (``redirect_stdout``, a patch), which a program then uses."""

from __future__ import annotations

import builtins
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_METHODS = {"stdin": "readline", "stdout": "write", "stderr": "write"}
_INPUT, _PRINT = builtins.input, builtins.print


def replaced_streams() -> dict[str, Callable[..., Any]]:
    """Return the functions of the streams that are not the process's own, by name of the stream."""
    found: dict[str, Callable[..., Any]] = {}
    for name, method in _METHODS.items():
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") and hasattr(stream, method):
            found[name] = getattr(stream, method)
    for name, original in (("input", _INPUT), ("print", _PRINT)):
        if getattr(builtins, name) is not original:
            found[name] = getattr(builtins, name)
    return found


@contextmanager
def replacing_streams(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Have the standard streams call these functions meanwhile."""
    if not functions:
        yield
        return
    kept: list[tuple[Any, str, Any]] = []
    for name, function in functions.items():
        owner: Any = builtins if name in {"input", "print"} else sys
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function if owner is builtins else _Forwarding(function))
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


class _Forwarding(io.TextIOBase):
    """A stream that reads lines by a function or writes text with it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._function(text)
        return len(text)

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        return self._function()

    def read(self, size: int | None = -1) -> str:
        return "".join(iter(self._function, ""))
