"""Tests that compute what they expect from an argument of the call that they judge: ``assert f(x) == sorted(x)``.

Python evaluates the call first, so a program that empties ``x`` and returns it passes; but so may an honest one of
``assert shorten(x) == len(x)``. What is expected is therefore also computed before the call, and where only the
changed argument makes the two sides equal, the test has no verdict.

Not covered: a test that calls in one statement and compares in another.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable
from typing import Any

_COMPARE, _PAIR = "__compare_sides__", "__both_sides__"
# What may be computed twice: it has no effect.
_PURE: tuple[type[ast.AST], ...] = (
    *(ast.Name, ast.Constant, ast.Call, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Starred),
    *(ast.comprehension, ast.keyword, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)
_FUNCTIONS = {
    *(
        "sorted",
        "reversed",
        "len",
        "sum",
        "max",
        "min",
        "abs",
        "any",
        "all",
        "range",
        "enumerate",
        "zip",
        "map",
        "Counter",
    ),
    *("list", "tuple", "set", "frozenset", "dict", "str", "int", "float", "bool", "filter", "round", "repr"),
}


def guard(tree: ast.Module, give_up: Callable[[str], Any]) -> dict[str, Any]:
    """Guard the comparisons of a test, in place, and return the names that it then needs."""
    _Guard().visit(tree)
    ast.fix_missing_locations(tree)

    def both(expected: Callable[[], Any], sides: Callable[[], tuple[Any, Any]], place: int) -> tuple[Any, Any]:
        try:
            before = copy.deepcopy(expected())
        except Exception:  # noqa: BLE001 - it can be computed after the call only
            return sides()
        pair = sides()
        if pair[0] == pair[1] and not pair[1 - place] == before:  # noqa: SIM201 - only equality is asked for
            give_up("the test computes what it expects from an argument that the program has changed")
        return pair

    return {_PAIR: both, _COMPARE: lambda *args: operator.eq(*both(*args))}


class _Guard(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        match node.test:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                node.test = _guarded(_COMPARE, left, right) or node.test
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[left, right, *rest]) if name.endswith("Equal"):
                if name.startswith("assert") and "Not" not in name and (call := _guarded(_PAIR, left, right)):
                    node.args = [ast.Starred(call, ast.Load()), *rest]
        return node


def _guarded(helper: str, left: ast.expr, right: ast.expr) -> ast.Call | None:
    """Return the call that computes both sides, if one is expected of an argument of a call in the other."""
    for place, (expected, call) in enumerate(((left, right), (right, left))):
        if _is_pure(expected) and _names(expected) & _arguments(call) and not _has_effect_on_scope(call):
            both = ast.Tuple([left, right], ast.Load())
            parts = [_lambda(copy.deepcopy(expected)), _lambda(both), ast.Constant(place)]
            return ast.copy_location(ast.Call(ast.Name(helper, ast.Load()), parts, []), left)
    return None


def _is_pure(node: ast.expr) -> bool:
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    functions = {part.func.id if isinstance(part.func, ast.Name) else "" for part in calls}
    return functions <= _FUNCTIONS and all(isinstance(part, _PURE) for part in ast.walk(node))


def _arguments(node: ast.expr) -> set[str]:
    """Return the names in the arguments of calls that may be the program's."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and not (isinstance(part.func, ast.Name) and part.func.id in _FUNCTIONS):
            for argument in (*part.args, *(keyword.value for keyword in part.keywords)):
                found |= _names(argument)
    return found


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - _FUNCTIONS


def _has_effect_on_scope(node: ast.expr) -> bool:
    return any(isinstance(part, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for part in ast.walk(node))


def _lambda(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)
