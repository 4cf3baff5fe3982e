"""In the judge's sandbox: run a data set's test code against a program that runs somewhere else.

The test code runs unmodified. Names that it takes from the program stand for objects in the program's
sandbox; everything else, above all what it expects, stays here.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import random
import sys
import traceback
import types
from collections.abc import Callable, Iterator

from omnithink_pl.sandbox.inside import nodes
from omnithink_pl.sandbox.inside.peer import Peer, PeerLost

CHANNEL, REPORT = 3, 4  # file descriptors
HELPERS = {
    name: getattr(nodes, name)
    for name in ("ListNode", "TreeNode", "Node", "list_node", "tree_node", "is_same_list", "is_same_tree")
}


def judge(tests: str, entry_point: str, provided: set[str]) -> None:
    """Run the tests and report how they ended. Does not return.

    Args:
        tests: Python source of asserts.
        entry_point: Expression for what they test, or nothing.
        provided: Names of the prelude.
    """
    sys.setrecursionlimit(20_000)
    sys.set_int_max_str_digits(0)
    random.seed(0)
    sys.argv = ["tests.py"]
    report = {"outcome": "lost", "error": "", "message": ""}
    try:
        _run(tests, entry_point, provided)
        report["outcome"] = "passed"
    except PeerLost as error:
        report["message"] = str(error)
    except BaseException as error:  # noqa: BLE001 - tests may raise anything, and all of it is their verdict
        report |= {"outcome": "raised", "error": type(error).__name__, "message": _described(error)}
    os.write(REPORT, json.dumps(report).encode())
    os._exit(0)


def _run(tests: str, entry_point: str, provided: set[str]) -> None:
    module = types.ModuleType("__main__")
    module.__dict__.update(HELPERS)
    sys.modules["__main__"] = module
    peer = Peer(CHANNEL, module.__dict__, rights=("call", "iterate", "next"))
    hello = peer.receive().get("names", [])
    offered = {name for name in hello if isinstance(name, str)} if isinstance(hello, list) else set()
    tree = ast.parse(tests, "tests.py")
    for name in sorted(wanted_names(tree, entry_point, offered, provided)):
        module.__dict__[name] = peer.look_up(name)
    try:
        exec(compile(tree, "tests.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        if end.code:  # tests that end with unittest.main() leave this way
            raise
    if isinstance(peer.raised, AssertionError):
        raise peer.raised  # inside a function handed to the program, which may have swallowed it
    if peer.asked == 0:
        raise AssertionError("the tests never use the program")
    peer.send({"bye": True})


def wanted_names(tree: ast.Module, entry_point: str, offered: set[str], provided: set[str]) -> set[str]:
    """Names that the tests take from the program.

    What the tests define themselves is theirs. A builtin, or a name of the prelude, is the program's only
    where it is what is tested: otherwise a program could lend the tests a ``sorted`` of its own.

    Args:
        tree: The tests.
        entry_point: Expression for what they test, or nothing.
        offered: Names that the program has.
        provided: Names of the prelude.

    Raises:
        NameError: If the program lacks what is tested.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    free = {name for name in used - set(_defined(tree)) if not name.startswith("__")}
    subjects = _subjects(tree, entry_point, free, offered, provided)
    for name in subjects & provided - offered:  # the prelude must not stand in for it
        raise NameError(f"the program does not define {name!r}")
    known = provided | set(HELPERS) | set(vars(builtins))
    return (subjects | (free - known)) & offered


def _subjects(tree: ast.Module, entry_point: str, free: set[str], offered: set[str], provided: set[str]) -> set[str]:
    """What is tested: the argument of a closing ``check(...)``, or else the functions that the tests call."""
    builtin = set(vars(builtins)) - provided
    stated = [entry_point] if entry_point.strip() else []
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[argument, *_])):
                stated.append(ast.unparse(argument))
    names = {node.id for text in stated for node in _names(text)}
    if names & free:
        return {name for name in names & free if name not in builtin or name in offered}
    called = {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    } & free
    layers: list[Callable[[str], bool]] = [
        lambda name: name not in builtin | provided | set(HELPERS),
        lambda name: name in provided and name in offered,
        lambda name: name in builtin and name in offered,
    ]
    return next((found for layer in layers if (found := set(filter(layer, called)))), set())


def _names(text: str) -> Iterator[ast.Name]:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Name))


def _defined(tree: ast.Module) -> Iterator[str]:
    """Names that the tests bind at module level."""
    for statement in tree.body:
        for node in _own_scope(statement):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    yield node.name
                case ast.Name(ctx=ast.Store()):
                    yield node.id
                case ast.alias():
                    yield (node.asname or node.name).partition(".")[0]
                case ast.ExceptHandler(name=str(name)):
                    yield name


def _own_scope(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _own_scope(child)


def _described(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-1000:]
