"""The program in a model's answer.

An answer explains, shows how to call what it wrote, and prints what that gives, each in a block of its own. So blocks
are chosen by what they define (or, where a whole program is wanted, by what they do when run), not by place alone.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from omnithink_pl.rewards.markdown import (
    FILE,
    code_blocks,
    compile_error,
    loose_blocks,
    with_fences,
    without_language,
    without_margin,
    without_prose,
)
from omnithink_pl.types import UnitTests

_PROVIDED = frozenset(dir(builtins)) | {"__file__"}
_READS = {"input", "stdin", "open", "fileinput"}
_WRITES = {"print", "stdout"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def extract_program(segment: str, tests: UnitTests) -> str:
    """Return the program in an answer segment.

    That is the segment itself, where it compiles. Otherwise it is the last code block which compiles and defines what
    the functional tests call or, for tests of a whole program, the last which reads, prints and lacks nothing; together
    with the blocks that define what it lacks. Code before the first fence counts as blocks, and so does code in tags
    where there is no such block. Failing that, all blocks joined; without blocks, the segment without prose around it.
    """
    text = segment.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").strip("\n").rstrip()
    text = without_language(text)
    for whole in (without_margin(text), text.lstrip()):  # "<answer> import math"
        if not compile_error(whole):
            return whole
    for one in dict.fromkeys((text, with_fences(text))):
        if found := _chosen(one, tests):
            return found
    sources = list(filter(str.strip, code_blocks(text)))
    return join_sources(sources) if sources else without_prose(without_margin(text).strip("`"))  # `inline code`


def _chosen(text: str, tests: UnitTests) -> str:
    """Return the program among the blocks of a text; empty if none does what the tests need."""
    sources = [*loose_blocks(text), *map(without_language, code_blocks(text))]
    blocks = [CodeBlock(source) for source in sources if not compile_error(source)]
    wanted = names_under_test(tests)
    reads = any(map(str.strip, tests.inputs))
    chosen = _defining(blocks, wanted) if tests.functional.strip() else _running(blocks, reads)
    return _completed(chosen, blocks, wanted) if chosen else ""


@lru_cache(maxsize=32)  # the completions of a prompt have the same tests
def names_under_test(tests: UnitTests) -> frozenset[str]:
    """Return the names that functional tests take from the program.

    They are those of the entry point; without one, all that the tests do not define, or import from ``solution``; or,
    where there is none, what they use of Python's own, which a problem may ask for anew: ``assert sum(10, 15) == 6``.
    """
    if tests.entry_point.strip() and not compile_error(tests.entry_point):
        return CodeBlock(tests.entry_point).uses
    if compile_error(tests.functional):
        return frozenset()
    functional = CodeBlock(tests.functional)
    return (functional.lacks | functional.tested) or functional.uses - functional.binds


def join_sources(sources: Sequence[str]) -> str:
    """Return sources as one, with every ``from __future__ import`` in front, where alone it is allowed."""
    future: list[str] = []
    rest: list[str] = []
    for source in filter(str.strip, sources):
        lines = source.split("\n")
        imports = [] if compile_error(source) else _future_imports(source)
        future += [ast.unparse(node) for node in imports]
        for node in imports:
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or 0) - node.lineno + 1)
        rest.append("\n".join(lines).strip("\n"))
    return "\n".join([*dict.fromkeys(future), "\n\n".join(rest)])


@dataclass(frozen=True)
class CodeBlock:
    """A source that compiles, and the names that it binds and uses."""

    source: str

    @cached_property
    def binds(self) -> frozenset[str]:
        """Names that running it binds."""
        top, *inner = self._scopes
        bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
        declared = {s.get_name() for scope in inner for s in scope.get_symbols() if s.is_declared_global()}
        return frozenset(bound | declared)

    @cached_property
    def uses(self) -> frozenset[str]:
        """Global names that it refers to, wherever."""
        symbols = (symbol for scope in self._scopes for symbol in scope.get_symbols())
        return frozenset(s.get_name() for s in symbols if s.is_global() and s.is_referenced())

    @property
    def lacks(self) -> frozenset[str]:
        """Names that it uses, does not bind, and Python does not have."""
        return self.uses - self.binds - _PROVIDED

    @cached_property
    def defines(self) -> frozenset[str]:
        """Names that it binds, neither by a mere signature nor by importing them from the answer itself."""
        empty = {node.name: _is_signature(node) for node in self._tree.body if isinstance(node, _DEFINITIONS)}
        borrowed = {
            alias.asname or alias.name
            for node in ast.walk(self._tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in sys.stdlib_module_names
            for alias in node.names
        }
        return self.binds - borrowed - {name for name, is_empty in empty.items() if is_empty}

    @cached_property
    def tested(self) -> frozenset[str]:
        """Names that a test takes from the module ``solution``, as which it may import the program."""
        found: set[str] = set()
        for node in ast.walk(self._tree):
            match node:
                case ast.ImportFrom(module="solution", names=aliases):
                    found |= {alias.name for alias in aliases}
                case ast.Attribute(value=ast.Name(id="solution"), attr=name):
                    found.add(name)
        return frozenset(found)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names and attributes anywhere in it."""
        return frozenset(_names(ast.walk(self._tree)))

    @cached_property
    def runs(self) -> frozenset[str]:
        """Names and attributes outside of functions, where they are met whenever it is run."""
        return frozenset(_names(_outside_functions(self._tree)))

    @cached_property
    def functions(self) -> frozenset[str]:
        """Functions and classes that it defines."""
        return frozenset(node.name for node in ast.walk(self._tree) if isinstance(node, _DEFINITIONS))

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self.source, FILE)

    @cached_property
    def _scopes(self) -> list[symtable.SymbolTable]:
        scopes = [symtable.symtable(self.source, FILE, "exec")]
        for scope in scopes:  # which grows meanwhile
            scopes += scope.get_children()
        return scopes


def _defining(blocks: Sequence[CodeBlock], wanted: frozenset[str]) -> CodeBlock | None:
    """Return the last block that defines the most of the names."""
    found = [block for block in blocks if block.defines & wanted]
    return max(reversed(found), key=lambda block: len(block.defines & wanted), default=None)


def _running(blocks: Sequence[CodeBlock], reads_input: bool) -> CodeBlock | None:
    """Return the last block that does the most of a whole program, if any prints or calls a function when run."""
    starters = _WRITES.union(*(block.functions for block in blocks))
    bound = frozenset().union(*(block.binds for block in blocks))

    def completeness(block: CodeBlock) -> int:
        reads = bool(block.names & _READS) or not reads_input
        return reads + bool(block.names & _WRITES) + (not block.lacks & bound)

    return max(reversed([block for block in blocks if block.runs & starters]), key=completeness, default=None)


def _completed(chosen: CodeBlock, blocks: Sequence[CodeBlock], wanted: frozenset[str]) -> str:
    """Return a block after those that define what it, or the tests, or they lack."""
    parts = [chosen]
    missing = chosen.lacks | wanted
    while missing := missing - frozenset().union(*(part.binds for part in parts)):
        helper = next((one for one in reversed(blocks) if one not in parts and one.binds & missing), None)
        if helper is None:
            break
        parts.append(helper)
        missing |= helper.lacks
    return join_sources([block.source for block in blocks if block in parts[1:]] + [chosen.source])


def _future_imports(source: str) -> list[ast.ImportFrom]:
    body = ast.parse(source, FILE).body
    found = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    others = {node.lineno for node in body if node not in found}  # "from __future__ import annotations; import re"
    return [node for node in found if node.lineno not in others]


def _is_signature(node: ast.stmt) -> bool:
    """Return whether a definition has no content: ``def f(x): ...``."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return all(map(_is_signature, node.body))
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    nodes = [node]  # no recursion: expressions may be nested deeper than calls
    for parent in nodes:
        if not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(parent)
            yield parent


def _names(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
