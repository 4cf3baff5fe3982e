"""What one end may ask of an object of the other, by name, and the special methods that ask for it."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from typing import Any


def _exit(target: Any, error: BaseException | None) -> Any:
    kind, traceback = (type(error), error.__traceback__) if error is not None else (None, None)
    return type(target).__exit__(target, kind, error, traceback)


_ARITHMETIC = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "xor")
# By action: special method, and that with the operands exchanged.
BINARY = {
    **{name: (f"__{name}__", f"__r{name}__") for name in (*_ARITHMETIC, "divmod")},
    **{f"{name}_": (f"__{name}__", f"__r{name}__") for name in ("and", "or")},
}
IN_PLACE = {f"i{name}": f"__i{name}__" for name in (*_ARITHMETIC, "and", "or")}
COMPARE = {name: f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")}
CONVERT = {
    **{name: f"__{name}__" for name in ("abs", "neg", "pos", "invert", "int", "float", "complex", "index", "bool")},
    **{name: f"__{name}__" for name in ("round", "trunc", "floor", "ceil")},
}
OTHER = {
    **{name: f"__{name}__" for name in ("iter", "next", "len", "repr", "str", "format", "reversed", "dir", "bytes")},
    **{name: f"__{name}__" for name in ("getitem", "setitem", "delitem", "length_hint", "call", "enter", "hash")},
    "exit": "__exit__",
    "contains": "__contains__",
    "copy": "__copy__",
    "deepcopy": "__deepcopy__",
}
AWAITED = {"await": "__await__", "anext": "__anext__", "aenter": "__aenter__", "aexit": "__aexit__"}
SPECIAL = frozenset(
    [
        *(name for names in BINARY.values() for name in names),
        *(name for names in (IN_PLACE, COMPARE, CONVERT, OTHER, AWAITED) for name in names.values()),
        "__aiter__",
        "__fspath__",
        "__missing__",
    ]
)

ACTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in [*BINARY, *IN_PLACE, *COMPARE] if name != "divmod"},
    **{name: getattr(operator, name) for name in ("abs", "neg", "pos", "invert", "index", "getitem", "setitem")},
    **{kind.__name__: kind for kind in (int, float, complex, bool, str, bytes)},
    **{function.__name__: function for function in (divmod, round, iter, next, len, repr, format, reversed, dir, hash)},
    **{function.__name__: function for function in (math.trunc, math.floor, math.ceil, copy.copy, copy.deepcopy)},
    **{function.__name__: function for function in (getattr, setattr, delattr, isinstance)},
    "delitem": operator.delitem,
    "contains": operator.contains,
    "length_hint": operator.length_hint,
    "enter": lambda target: type(target).__enter__(target),
    "exit": _exit,
    "call": lambda target, /, *args, **kwargs: target(*args, **kwargs),
}
# Results of these are made of what they act on; they are not what a program returns as an answer.
OPERATORS = frozenset([*BINARY, *IN_PLACE, "neg", "pos", "abs", "invert", "enter", "iter"])
