"""What a forked child executes: a script, a program that a test calls, or that test.

The test runs unmodified, in another box than the program. Names that it takes from the program stand for objects in the
program's box; everything else, above all the expected values, stays with the test.

Not covered: expected outputs of scripts, which never enter a box.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import io
import json
import os
import random
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from omnithink_pl.sandbox.inside.expectations import guard
from omnithink_pl.sandbox.inside.prelude import HELPERS, NODES
from omnithink_pl.sandbox.inside.rpc import Connection, ConnectionLost, Malformed, Undefined
from omnithink_pl.sandbox.inside.trust import Trust, classes_in_use

CHANNEL, REPORT = 3, 4  # file descriptors: calls between test and program; the test's result
RECURSION = 20_000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def run_script(source: str) -> None:
    """Run a program as Python runs a file. Does not return."""
    module = _prepare("__main__", "program.py")
    code: str | int | None = None
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        code = end.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    # Exit as Python does, but without tearing the interpreter down, which takes longer than the run.
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and ends those of executors
    atexit._run_exitfuncs()
    for file in (*module.__dict__.values(), sys.stdout, sys.__stdout__, sys.stderr):
        if isinstance(file, io.IOBase) and not file.closed and file.writable():
            file.flush()
    os._exit((code or 0) & 255)


def serve_calls(source: str) -> None:
    """Import a program, send its names to the test, and handle the test's calls. Does not return."""
    module = _prepare("solution", "program.py")  # not __main__: such a block does not run
    exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    connection = Connection(CHANNEL, module.__dict__)
    try:
        connection.send({"names": list(module.__dict__)})
        while "do" in (message := connection.receive()):
            connection.handle(message)
    except (Malformed, Undefined) as error:
        print(error, file=sys.stderr)
    except ConnectionLost:
        if connection.raised is not None:  # the test failed by it
            sys.__excepthook__(type(connection.raised), connection.raised, connection.raised.__traceback__)
    os._exit(0)


def run_test(source: str, entry_point: str, provided: set[str]) -> None:
    """Run a test, whose names of the prelude are ``provided``, and report its result. Does not return."""
    module = _prepare("__main__", "tests.py")
    report = {"outcome": "lost", "error": "", "message": ""}
    try:
        tree = ast.parse(source, "tests.py")
        compile(source, "tests.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        _report(report | {"outcome": "undefined", "message": f"the tests do not compile: {error}"})
    module.__dict__.update(HELPERS)
    written = _files_written()
    connection = Connection(CHANNEL, module.__dict__, Trust(classes_in_use(tree)))
    try:
        _test(connection, module, tree, partial(wanted_names, tree, entry_point, provided=provided))
        report["outcome"] = "passed"
    except ConnectionLost as error:
        report["message"] = str(error)
    except BaseException as error:  # noqa: BLE001 - a test may raise anything, and all of it is its verdict
        message = "".join(traceback.format_exception(error))[-1000:]
        report |= {"outcome": "raised", "error": type(error).__name__, "message": message}
    if written and report["outcome"] == "raised":
        connection.undefined = connection.undefined or f"the test writes {written[0]}, which the program does not see"
    if connection.undefined:
        report |= {"outcome": "undefined", "message": connection.undefined}
    _report(report)


def _files_written() -> list[str]:
    """Return a list that grows whenever this process, from now on, opens a file for writing or makes a folder."""
    paths: list[str] = []

    def observe(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.mkdir" or (event == "open" and isinstance(args[0], str) and args[2] & _WRITING):
            paths.append(str(args[0]))

    sys.addaudithook(observe)
    return paths


class _Solution(types.ModuleType):
    """The program as the module that a test may import: ``from solution import add``.

    With ``*`` it has no names: those that the test needs are there already.
    """

    __all__: Sequence[str] = ()

    def __init__(self, connection: Connection, offered: set[str]) -> None:
        super().__init__("solution")
        self._connection, self._offered = connection, offered

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._offered:
            raise AttributeError(f"module 'solution' has no attribute {name!r}")
        return self._connection.fetch(name)


def _report(report: dict[str, str]) -> None:
    """Replace whatever the test itself has written into its report. Does not return."""
    os.ftruncate(REPORT, 0)
    os.pwrite(REPORT, json.dumps(report).encode(), 0)
    os._exit(0)


def _prepare(name: str, file: str) -> types.ModuleType:
    """Return the module to run in, the interpreter being as at its start and with limits that suit programs."""
    sys.argv = [file]
    sys.setrecursionlimit(RECURSION)
    sys.set_int_max_str_digits(0)
    random.seed(0)  # forking has seeded it at random
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _test(
    connection: Connection, module: types.ModuleType, tree: ast.Module, wanted: Callable[[set[str]], set[str]]
) -> None:
    hello = connection.receive().get("names", [])
    offered = {name for name in hello if isinstance(name, str)} if isinstance(hello, list) else set()
    for name in sorted(wanted(offered)):
        connection.look_up(name)
    sys.modules["solution"] = _Solution(connection, offered)
    module.__dict__.update(guard(tree, connection.give_up))
    try:
        exec(compile(tree, "tests.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        if end.code or any(end is exit_ for exit_ in connection.exits):
            raise  # else tests have ended with unittest.main()
    if isinstance(connection.raised, AssertionError):
        raise connection.raised  # in a function handed to the program, which may have swallowed it
    if connection.requests == 0:
        raise AssertionError("the tests never use the program")
    connection.send({"bye": True})


def wanted_names(tree: ast.Module, entry_point: str, offered: set[str], provided: set[str]) -> set[str]:
    """Return the names that a test takes from the program, which offers some; others are ``provided`` by the prelude.

    Names that the test defines are its own. A builtin, or a name of the prelude, is the program's only
    where it is under test: otherwise a program could lend the test a ``sorted`` of its own. Raises ``NameError`` if the
    program lacks the name under test.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    free = {name for name in used - set(_defined(tree)) if not name.startswith("__")}
    subjects = _subjects(tree, entry_point, free, offered, provided)
    for name in subjects & provided - offered:  # the prelude must not stand in for it
        raise NameError(f"the program does not define {name!r}")
    known = (provided | set(HELPERS) | set(vars(builtins))) - set(NODES)
    return (subjects | (free - known)) & offered


def _subjects(tree: ast.Module, entry_point: str, free: set[str], offered: set[str], provided: set[str]) -> set[str]:
    """Return the names under test: in the argument of a closing ``check(...)``, or else the functions called."""
    builtin = set(vars(builtins)) - provided
    stated: list[ast.AST] = []
    with suppress(SyntaxError):  # it is empty, or no expression
        stated.append(ast.parse(entry_point, mode="eval"))
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[argument, *_])):
                stated.append(argument)
    names = {node.id for part in stated for node in ast.walk(part) if isinstance(node, ast.Name)}
    if names & free:
        return (names & free) - (builtin - offered)
    called = _called(tree) & free
    own = called - builtin - provided - set(HELPERS)
    if _imports_program(tree):  # and names what it tests: no other name is the program's by accident
        return own
    candidates = (own, called & provided & offered, called & builtin & offered)
    asserted = {name for name in called if name not in HELPERS and _is_asserted(tree, name)}
    asserted |= {name for name in called if not callable(getattr(builtins, name, len))}  # inf()
    return next(filter(None, candidates), set()) | (asserted & offered)


def _imports_program(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="solution", names=[alias, *_]) if alias.name != "*":
                return True
            case ast.Import(names=names) if any(alias.name == "solution" for alias in names):
                return True
    return False


def _called(tree: ast.Module) -> set[str]:
    """Return the names that a test calls, also as decorators."""
    called: list[ast.expr] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=function):
                called.append(function)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                called += node.decorator_list
    return {function.id for function in called if isinstance(function, ast.Name)}


def _is_asserted(tree: ast.Module, name: str) -> bool:
    """Return whether a test only ever compares a function of literals with a literal: ``assert gcd(4, 6) == 2``.

    Nobody asserts that of Python's own ``gcd``, as in ``assert f(4, 6) == gcd(4, 6)``.
    """
    facts = 0
    for node in ast.walk(tree):
        sides: list[ast.expr] = []
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
            case ast.Call(func=ast.Attribute(attr=method), args=[*sides]) if method.startswith("assert"):
                pass
        calls = [side for side in sides if not _is_literal(side)]
        match calls:
            case [ast.Call(func=ast.Name(id=function), args=args, keywords=keywords)] if function == name:
                facts += all(map(_is_literal, [*args, *(keyword.value for keyword in keywords)]))
    return facts == sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def _is_literal(node: ast.expr) -> bool:
    return not any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(node))


def _defined(node: ast.AST) -> Iterator[str]:
    """Yield the names bound at module level."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return  # its body is a scope of its own
        case ast.Lambda():
            return
        case ast.Name(ctx=ast.Store()):
            yield node.id
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
        case ast.ExceptHandler(name=str(name)):
            yield name
    for child in ast.iter_child_nodes(node):
        yield from _defined(child)
