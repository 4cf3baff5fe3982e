"""Code suites: HumanEval and BigCodeBench complete a function; LiveCodeBench has contest problems."""

from __future__ import annotations

import ast
import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import SuiteSource
from omnithink_pl.rewards.code import reference_defect
from omnithink_pl.types import Example, UnitTests

# Runs the class TestCases of a BigCodeBench row.
_RUN_TEST_CASES = """

import io as _io, unittest as _unittest
_cases = _unittest.defaultTestLoader.loadTestsFromTestCase(TestCases)
_result = _unittest.TextTestRunner(stream=_io.StringIO()).run(_cases)
assert _result.testsRun and _result.wasSuccessful(), str(_result.errors + _result.failures)[-500:]
"""
_MAX_UNPACKED = 256 << 20  # bytes of a row's tests; the largest row has a tenth of it
# Calls the program's function with JSON values. As in the official harness a tuple equals a list.
_FUNCTIONAL = """
import json

def plain(value):
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

def check(candidate):
    for given, expected in json.loads({cases!r}):
        got = plain(candidate(*given))
        assert got == expected, f"{{got!r}} is not {{expected!r}}"

check({entry_point})
"""


@final
class HumanEval(SuiteSource):
    r"""HumanEval (MIT; Chen et al. 2021). Not in the paper.

    A row: ``{"task_id": "HumanEval/0", "prompt": "from typing import List\n\n\ndef ...", "test": "def check(candidate):
    ...", "entry_point": "has_close_elements", ...}``. The answer is the whole function. As in BigCodeBench's
    calibrated runs, the prompt with an empty body stands before it, so that imports and helpers are there.
    """

    hub, size = "openai/openai_humaneval", 164
    columns = ("task_id", "prompt", "test", "entry_point")

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the function to complete with its tests."""
        where, name = f"{self.named}: row {index} ({row['task_id']})", row["entry_point"]
        if "def check" not in (row["test"] or "") or not name:
            raise BadInput(f"{where}: 'test' defines no check, or 'entry_point' is empty; drop the row")
        functional, prelude = f"{row['test']}\n\ncheck({name})\n", f"{row['prompt']}\n    pass\n\n"
        tests = _usable(UnitTests(functional=functional, entry_point=name, prelude=prelude), where)
        return Example(task, row["task_id"], f"Complete this function:\n{row['prompt']}", tests)


@final
class BigCodeBench(SuiteSource):
    """BigCodeBench (Apache-2.0): the *complete* prompts of the full set.

    A row: ``{"task_id": "BigCodeBench/0", "complete_prompt": "import itertools ... def task_func(...): ...",
    "code_prompt": "import itertools ... def task_func(...):", "test": "import unittest ... class TestCases ...",
    "entry_point": "task_func", "libs": "['random', 'itertools']", ...}``. As in the official, calibrated run,
    ``code_prompt`` with an empty body stands before the answer, which is the whole function.

    **The tests need many libraries** and compare live objects, so program and tests run in one interpreter, inside a
    container: ``omnithink_pl.sandbox.one_process.OneProcess``. In the sealed sandbox, with the standard library only, a
    problem that needs more has no verdict, and the benchmark no score rather than a 0.
    """

    hub, hub_split, size = "bigcode/bigcodebench", "v0.1.4", 1140
    columns = ("task_id", "complete_prompt", "code_prompt", "test", "entry_point", "libs")

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """Return the function to complete with its tests."""
        where = f"{self.named}: row {index} ({row['task_id']})"
        if "class TestCases" not in (row["test"] or ""):
            raise BadInput(f"{where}: 'test' has no class TestCases; drop the row")
        try:
            libs = ast.literal_eval(row["libs"])  # a Python list as text
        except (SyntaxError, ValueError) as error:
            raise BadInput(f"{where}: 'libs' is no list of names: {row['libs']!r}; take another revision") from error
        tests = UnitTests(
            functional=row["test"] + _RUN_TEST_CASES,
            entry_point=row["entry_point"],
            prelude=f"{row['code_prompt']}\n    pass\n\n",
            packages=tuple(dict.fromkeys(str(name).partition(".")[0] for name in libs)),  # the top-level ones
        )
        tests = _usable(tests, where)
        return Example(task, row["task_id"], f"Complete this function:\n{row['complete_prompt']}", tests)


@final
class LiveCodeBench(SuiteSource):
    r"""LiveCodeBench (Jain et al. 2024), reported by difficulty.

    The hub's is a mirror in parquet: the official loader is a script, which ``datasets`` no longer runs. A row:
    ``{"question_content": "...", "question_id": "3566", "contest_date": "2024-10-05T00:00:00", "starter_code": "class
    Solution: ...", "difficulty": "easy", "public_test_cases": "[{...}]", "private_test_cases": "eJx...", "metadata":
    "{\"func_name\": \"f\"}", ...}``.

    Unlike in the official harness, expected outputs never reach the program, the sandbox's time limit is for all tests
    together (there 6 seconds for each), and printed numbers may differ by 1e-6, as on contest sites.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Commit, tag or branch of a hub id.
        first: First day of contests, such as ``2024-10-01``.
        last: Last day of contests.
    """

    hub, config, size = "lighteval/code_generation_lite", "release_v5", 880
    columns = (
        "question_id",
        "question_content",
        "starter_code",
        "contest_date",
        "difficulty",
        "public_test_cases",
        "private_test_cases",
        "metadata",
    )

    def __init__(
        self, path: str | None = None, revision: str | None = None, first: str = "2024-10-01", last: str = "2025-01-31"
    ) -> None:
        super().__init__(path, revision)
        try:
            self.days = (date.fromisoformat(first), date.fromisoformat(last))
        except ValueError as error:
            raise BadInput(f"LiveCodeBench: first={first!r} or last={last!r} is no day; write 2024-10-01") from error

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example | None:
        """Return the problem with its tests, if its contest was between ``first`` and ``last``."""
        where = f"{self.named}: row {index} ({row['question_id']})"
        given = row["contest_date"]  # text or a datetime
        try:
            day = datetime.fromisoformat(str(given)).date()
        except ValueError as error:
            raise BadInput(f"{where}: 'contest_date' is {given!r}, no date; take another revision") from error
        if not self.days[0] <= day <= self.days[1]:
            return None
        starter = row["starter_code"] or ""
        how = f"Use this code:\n{starter}" if starter.strip() else "Read from standard input and print the result."
        question = f"{row['question_content']}\n\n{how}"
        tests = _read_tests(row, where)
        return Example(task, str(row["question_id"]), question, tests, category=row["difficulty"] or "")


def _usable(tests: UnitTests, where: str) -> UnitTests:
    if defect := reference_defect(tests):
        raise BadInput(f"{where}: {defect}")
    return tests


def _read_tests(row: Mapping[str, Any], where: str) -> UnitTests:
    """Return the public and private tests of a row; ``where`` names it in messages."""
    cases = [*_cases(row, "public_test_cases", where), *_cases(row, "private_test_cases", where)]
    kinds = {case.get("testtype") for case in cases}
    if len(kinds) != 1 or not kinds <= {"stdin", "functional"}:
        found = sorted(map(str, kinds))
        raise BadInput(f"{where}: its tests are of the kinds {found}; they are all stdin or functional")
    if kinds == {"stdin"}:
        return UnitTests(tuple(case["input"] for case in cases), tuple(case["output"] for case in cases))
    name = json.loads(row["metadata"] or "{}").get("func_name")
    if not name:
        raise BadInput(f"{where}: 'metadata' has no func_name; take another revision")
    entry_point = f"Solution().{name}" if "class Solution" in (row["starter_code"] or "") else name
    try:
        # Inputs are the arguments of a call, one JSON value per line.
        given = [[json.loads(line) for line in case["input"].split("\n") if line.strip()] for case in cases]
        values = [(own, json.loads(case["output"])) for own, case in zip(given, cases, strict=True)]
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: a functional test is not JSON ({error}); take another revision") from error
    functional = _FUNCTIONAL.format(cases=json.dumps(values), entry_point=entry_point)
    return UnitTests(functional=functional, entry_point=entry_point)


def _cases(row: Mapping[str, Any], column: str, where: str) -> list[dict[str, Any]]:
    text = row[column] or "[]"
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass  # packed, as private tests usually are
    try:  # JSON in a pickle in zlib in base64
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), _MAX_UNPACKED)
        if inflate.unconsumed_tail:
            raise ValueError(f"more than {_MAX_UNPACKED >> 20} MiB")
        return json.loads(str(_PlainUnpickler(io.BytesIO(data)).load()))
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise BadInput(f"{where}: {column!r} cannot be decoded ({error}); take another revision") from error


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of text and numbers; refuses whatever would import or call anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
