"""How far a test lets the program's own operators judge the test's data.

``assert V(1) + V(2) == V(3)`` has to ask the program's ``__eq__``. But ``assert f(1) == 5`` must not, though ``f``
may return an object whose ``__eq__`` always says yes; nor may ``abs(f(1) - 2.5)`` tell a program what is expected. So

* operators among the program's own objects are its own;
* data of the test are handed to an operator only for an object *under test*: one that the test itself made of a class
  (``Money(5) == 5``), where the test's own text shows that it is a class (:func:`classes_in_use`);
* an object that a call returned stands where data may be expected. It never compares with data: of a class that the
  test knows by name the verdict is undefined, of another such objects are unequal. Arithmetic with data may give an
  object (``v.scaled(2) * 3``), but never data, also not by conversion of that object.
"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any, final

from omnithink_pl.sandbox.inside.prelude import NODES
from omnithink_pl.sandbox.inside.values import IMMUTABLE_TAGS, MUTABLE_TAGS, SCALARS

_DATA = {*SCALARS, *IMMUTABLE_TAGS, *MUTABLE_TAGS} - {SimpleNamespace, *NODES.values()}
_DATA_ATTRIBUTES = {name for kind in _DATA for name in dir(kind)}


def classes_in_use(tree: ast.Module) -> set[str]:
    """Return the names that a test uses as no function is used: ``s = Stack(); s.push(1)``, ``except Bad``.

    What is called and then has an attribute that no plain data have is an instance; so is what is made by a capitalised
    name and then changed, but not by sorting.
    """
    made: dict[str, set[str]] = {}  # by variable: what it may be made by
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call(func=ast.Name(id=name))):
                made.setdefault(target, set()).add(name)
            case ast.withitem(context_expr=ast.Call(func=ast.Name(id=name)), optional_vars=ast.Name(id=target)):
                made.setdefault(target, set()).add(name)
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if attribute not in _DATA_ATTRIBUTES:
                found |= made.get(name, {name})
            case ast.Attribute(value=ast.Call(func=ast.Name(id=name)), attr=attribute):
                found |= {name} if attribute not in _DATA_ATTRIBUTES else set()
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr=attribute))):
                found |= _capitalised(made.get(target, set())) if attribute not in {"sort", "reverse"} else set()
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                found |= {part.id for part in ast.walk(kinds) if isinstance(part, ast.Name)}
            case ast.Call(func=ast.Attribute(attr="assertRaises" | "assertRaisesRegex" | "raises"), args=[kinds, *_]):
                found |= {part.id for part in ast.walk(kinds) if isinstance(part, ast.Name)}
            case ast.ExceptHandler(type=ast.expr() as kinds):
                found |= {part.id for part in ast.walk(kinds) if isinstance(part, ast.Name)}
    return found


def _capitalised(names: set[str]) -> set[str]:
    return {name for name in names if name[0].isupper()}


@final
class Trust:
    """What a test's end knows of the program's objects.

    Args:
        in_use: Names that the test uses as classes; ``None`` at the program's end, which may ask the test anything.
    """

    def __init__(self, in_use: set[str] | None = None) -> None:
        self._in_use = in_use
        self._named: set[type] = set()  # classes that the test has by name
        self._classes: set[type] = set()  # of these, those whose instances may be under test
        self._under_test: set[int] = set()
        self._informed: set[int] = set()  # objects made by handing over the test's data

    def name(self, name: str, value: Any) -> None:
        """Record that the test has an object by name."""
        if not isinstance(value, type) or self._in_use is None:
            return
        if name in self._in_use:
            self._classes.add(value)
        if name in self._in_use or name[:1].isupper():  # else the test calls it as a function
            self._named.add(value)

    def expects(self, error: BaseException) -> bool:
        """Return whether the test has a handler for such an exception by its very name."""
        return self._in_use is None or type(error).__name__ in self._in_use

    def is_under_test(self, number: int | None) -> bool:
        """Return whether an object may be handed the test's data."""
        return self._in_use is None or number in self._under_test

    def is_informed(self, number: int | None) -> bool:
        """Return whether an object came of the test's data, so that it must not turn into data."""
        return self._in_use is not None and number in self._informed

    def inform(self, number: int | None) -> None:
        """Record that an object was made by handing over the test's data."""
        if number is not None:
            self._informed.add(number)

    def knows(self, kind: type) -> bool:
        """Return whether the test knows a class, or one of its bases, by name."""
        return not self._named.isdisjoint(kind.__mro__)

    def observe_made(self, kind: Any, result: Any, number: int | None) -> None:
        """Record that the test made a new object by calling a class."""
        if kind in self._classes and isinstance(result, kind) and number is not None:
            self._under_test.add(number)

    def observe_operation(self, operands: set[int | None], result: Any, number: int | None) -> None:
        """Record that an operator made an object of others."""
        is_instance = not self._classes.isdisjoint(type(result).__mro__)
        if is_instance and number is not None and not self._under_test.isdisjoint(operands):
            self._under_test.add(number)

    def observe_returned(self, numbers: set[int]) -> None:
        """Record that a call returned objects, where the test may expect data."""
        self._under_test -= numbers
