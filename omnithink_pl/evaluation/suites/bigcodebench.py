"""BigCodeBench: functions that use many libraries."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import BenchmarkSource
from omnithink_pl.types import Example, UnitTests

RUN = """

import io as _io, unittest as _unittest
_cases = _unittest.defaultTestLoader.loadTestsFromTestCase(TestCases)
_result = _unittest.TextTestRunner(stream=_io.StringIO()).run(_cases)
assert _result.testsRun and _result.wasSuccessful(), str(_result.errors + _result.failures)[-500:]
"""


@final
class BigCodeBench(BenchmarkSource):
    """bigcode/bigcodebench (Apache-2.0), split ``v0.1.4``, 1140 rows: the *complete* prompts of the full set.

    A row: ``{"task_id": "BigCodeBench/0", "complete_prompt": "import itertools ... def task_func(...): ...",
    "instruct_prompt": "...", "canonical_solution": "    ...", "code_prompt": "import itertools ... def
    task_func(...):", "test": "import unittest ... class TestCases(unittest.TestCase): ...", "entry_point":
    "task_func", "doc_struct": "...", "libs": "['random', 'itertools']"}``. As in the official, calibrated run,
    ``code_prompt`` with an empty body stands before the answer, which is the whole function.

    **The tests need many libraries** (``libs``: 139 in all, pandas, numpy and matplotlib among them), and compare live
    objects, so the official harness runs program and tests in one interpreter, in a container of its own. That is
    what ``omnithink_pl.sandbox.one_process.OneProcess`` does. The sealed sandbox keeps them apart, and has Python's
    own library only: a problem that needs more has no verdict there, and the benchmark then no score, rather than 0.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "bigcode/bigcodebench"
    hub_split: ClassVar[str] = "v0.1.4"
    columns: ClassVar[tuple[str, ...]] = ("task_id", "complete_prompt", "code_prompt", "test", "entry_point", "libs")
    size: ClassVar[int] = 1140

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The function to complete with its tests."""
        where = f"{self.named}: row {index} ({row['task_id']})"
        if "class TestCases" not in (row["test"] or ""):
            raise BadInput(f"{where}: 'test' has no class TestCases; drop the row")
        tests = UnitTests(
            functional=row["test"] + RUN,
            entry_point=row["entry_point"],
            prelude=f"{row['code_prompt']}\n    pass\n\n",
            packages=_packages(row["libs"], where),
        )
        return Example(task, row["task_id"], f"Complete this function:\n{row['complete_prompt']}", tests)


def _packages(libs: str, where: str) -> tuple[str, ...]:
    """Top-level packages of the column ``libs``, a Python list as text."""
    try:
        named = ast.literal_eval(libs)
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{where}: 'libs' is no list of names: {libs!r}; take another revision") from error
    return tuple(dict.fromkeys(str(name).partition(".")[0] for name in named))
