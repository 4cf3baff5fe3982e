"""Suites of functions to complete: HumanEval and BigCodeBench."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import SuiteSource
from omnithink_pl.types import Example, UnitTests

# Runs the class TestCases of a BigCodeBench row.
_RUN_TEST_CASES = """

import io as _io, unittest as _unittest
_cases = _unittest.defaultTestLoader.loadTestsFromTestCase(TestCases)
_result = _unittest.TextTestRunner(stream=_io.StringIO()).run(_cases)
assert _result.testsRun and _result.wasSuccessful(), str(_result.errors + _result.failures)[-500:]
"""


@final
class HumanEval(SuiteSource):
    r"""openai/openai_humaneval (MIT), split ``test``, 164 rows (Chen et al. 2021). Not in the paper.

    A row: ``{"task_id": "HumanEval/0", "prompt": "from typing import List\n\n\ndef ...", "canonical_solution": "    for
    ...", "test": "def check(candidate): ...", "entry_point": "has_close_elements"}``. The answer is the whole
    function. As in BigCodeBench's calibrated runs, the prompt with an empty body stands before it, so that imports
    and helpers of the prompt are there.
    """

    hub = "openai/openai_humaneval"
    columns = ("task_id", "prompt", "test", "entry_point")
    size = 164

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the function to complete with its tests."""
        name = row["entry_point"]
        if "def check" not in (row["test"] or "") or not name:
            raise BadInput(
                f"{self.named}: row {index} ({row['task_id']}): 'test' defines no check, or 'entry_point' is empty; "
                f"drop the row"
            )
        tests = UnitTests(
            functional=f"{row['test']}\n\ncheck({name})\n",
            entry_point=name,
            prelude=f"{row['prompt']}\n    pass\n\n",
        )
        return Example(task, row["task_id"], f"Complete this function:\n{row['prompt']}", tests)


@final
class BigCodeBench(SuiteSource):
    """bigcode/bigcodebench (Apache-2.0), split ``v0.1.4``, 1140 rows: the *complete* prompts of the full set.

    A row: ``{"task_id": "BigCodeBench/0", "complete_prompt": "import itertools ... def task_func(...): ...",
    "instruct_prompt": "...", "canonical_solution": "    ...", "code_prompt": "import itertools ... def
    task_func(...):", "test": "import unittest ... class TestCases(unittest.TestCase): ...", "entry_point":
    "task_func", "doc_struct": "...", "libs": "['random', 'itertools']"}``. As in the official, calibrated run,
    ``code_prompt`` with an empty body stands before the answer, which is the whole function.

    **The tests need many libraries** (``libs``: 139 in all, pandas, numpy and matplotlib among them) and compare live
    objects, so the official harness runs program and tests in one interpreter, inside a container, as
    ``omnithink_pl.sandbox.one_process.OneProcess`` does. The sealed sandbox keeps the two apart and has only Python's
    standard library: there a problem that needs more has no verdict, and the benchmark no score rather than a 0.
    """

    hub = "bigcode/bigcodebench"
    hub_split = "v0.1.4"
    columns = ("task_id", "complete_prompt", "code_prompt", "test", "entry_point", "libs")
    size = 1140

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the function to complete with its tests."""
        where = f"{self.named}: row {index} ({row['task_id']})"
        if "class TestCases" not in (row["test"] or ""):
            raise BadInput(f"{where}: 'test' has no class TestCases; drop the row")
        tests = UnitTests(
            functional=row["test"] + _RUN_TEST_CASES,
            entry_point=row["entry_point"],
            prelude=f"{row['code_prompt']}\n    pass\n\n",
            packages=_packages(row["libs"], where),
        )
        return Example(task, row["task_id"], f"Complete this function:\n{row['complete_prompt']}", tests)


def _packages(libs: str, where: str) -> tuple[str, ...]:
    """Return the top-level packages of the column ``libs``, a Python list as text."""
    try:
        named = ast.literal_eval(libs)
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{where}: 'libs' is no list of names: {libs!r}; take another revision") from error
    return tuple(dict.fromkeys(str(name).partition(".")[0] for name in named))
