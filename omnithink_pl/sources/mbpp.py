"""MBPP: small programming problems with asserts."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, final

from omnithink_pl.rewards.markdown import compile_error, parse
from omnithink_pl.sources.base import Row
from omnithink_pl.sources.cells import UnusableRow, optional_text_of, text_of, texts_of
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import ParsedRow
from omnithink_pl.types import UnitTests


def _called(tests: Sequence[str]) -> list[str]:
    """Return the names that tests call, outermost first.

    Example:
        >>> _called(["assert set(find_words('a b')) == set(['a'])"])
        ['set', 'set', 'find_words']
    """
    nodes = (node for test in tests for node in ast.walk(parse(test)))
    return [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def _defined(program: str) -> Iterator[str]:
    for statement in parse(program).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))


@final
class MBPP(CuratedSource):
    r"""google-research-datasets/mbpp (CC BY 4.0; configuration ``full``: 374 training and 500 test rows of 974).

    A row: ``{"task_id": 2, "text": "Write a function to find the similar elements ...", "code": "def similar_elements(
    test_tup1, test_tup2): ...", "test_list": ["assert similar_elements((3, 4),(5, 4)) == (4,)", ...],
    "test_setup_code": "", "challenge_test_list": []}`` (Austin et al. 2021). The first assert is shown, since the text
    names neither the function nor its arguments; the others stay hidden, so that an answer which just returns what it
    has seen fails (in 7 of 729 it does not). The reference program only tells which called function is to be written.

    In a file that holds all rows, those with a ``task_id`` from 11 to 510 are held out: the authors' test split.
    """

    columns: tuple[str, ...] = (
        "task_id",
        "text",
        "code",
        "test_list",
        "test_setup_code",
        "challenge_test_list",
    )
    id_column = "task_id"
    official_test: ClassVar[tuple[str, Collection[Any]] | None] = ("task_id", range(11, 511))

    def parse(self, row: Row) -> ParsedRow:
        """Return the problem, the first assert under it, with all asserts as tests."""
        uid, text = text_of(row, "task_id"), text_of(row, "text").strip()
        shown = _tests(row, "test_list")
        if not shown:
            raise UnusableRow("test_list", "it has no tests, so that any program would pass; give some or drop the row")
        tests = [*shown, *_tests(row, "challenge_test_list")]
        setup = optional_text_of(row, "test_setup_code").strip()
        functional = "\n".join([*filter(None, [setup]), *tests]) + "\n"
        if why := compile_error(functional) or compile_error(code := optional_text_of(row, "code")):
            raise UnusableRow("test_list", f"its tests or 'code' are no Python ({why}); correct or drop the row")
        called, built, defined = _called(tests[:1]), _called([setup]), set(_defined(code))
        if defined.intersection(built):
            cure = "it makes objects of the answer's own classes, which tests cannot reach into; drop the row"
            raise UnusableRow("test_setup_code", cure)
        name = next((name for name in called if name in defined), None)
        if name is None:
            cure = "its first test calls nothing that 'code' defines; correct or drop the row"
            raise UnusableRow("test_list", cure)
        question = f"{text}\nIt must pass this test:\n{shown[0].strip()}"
        return ParsedRow(uid, question, UnitTests(functional=functional, entry_point=name))


def _tests(row: Row, column: str) -> list[str]:
    return [] if row[column] is None else [test for test in texts_of(row, column) if test.strip()]
