"""code-r1: programming problems with unit tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar, final

from omnithink_pl.embedded import code
from omnithink_pl.sandbox.base import parse_tests
from omnithink_pl.sources.curated import CuratedSource
from omnithink_pl.sources.curation import all_usable
from omnithink_pl.types import Example, UnitTests

if TYPE_CHECKING:
    from omnithink_pl.sources.base import Row, Split
    from omnithink_pl.sources.curation import Check


@final
class CodeR1(CuratedSource):
    r"""ganler/code-r1-12k (no licence declared; 12,458 training rows), or miniature rows of its shape.

    A row: ``{"task_id": "...", "prompt": [{"role": "system", ...}, {"role": "user", "content": "Write f(x)..."}],
    "entry_point": "f", "test": "...", "completion": "...", "examples": [{"input": "3", "output": "8"}],
    "src": "leetcode", "meta": {...}, "data_source": "code", "ability": "coding",
    "reward_model": {"ground_truth": "{\"functional\": \"def check(candidate): ...\"}", "style": "rule"},
    "extra_info": {"dataset": "...", "index": 0, "prompt": "...", "reference": "...", "split": "train"}}``.
    ``ground_truth`` is JSON: ``functional`` asserts, or ``inputs`` and ``outputs`` of a program.
    The row's own system prompt is dropped in favour of the task's. The paper drops prompts over 1024 tokens.
    """

    columns: ClassVar[tuple[str, ...]] = ("task_id", "prompt", "entry_point", "reward_model")

    def embedded_rows(self, split: Split) -> list[Row]:
        """Miniature rows of the same schema."""
        return code.rows(split)

    def uid(self, row: Row) -> str:
        """The row's own."""
        return str(row["task_id"])

    def question(self, row: Row) -> str:
        """What the user says."""
        return "\n".join(message["content"] or "" for message in row["prompt"] or () if message["role"] == "user")

    def identity(self, row: Row) -> str:
        """The problem."""
        return self.question(row)

    def category(self, row: Row) -> str:
        """Which of the two kinds the tests are."""
        tests = _tests(row)
        return "unusable" if isinstance(tests, str) else "function" if tests.functional else "program"

    def selection(self) -> Mapping[str, Callable[[Row], bool]]:
        """Everything is wanted."""
        return {}

    def defect(self, row: Row) -> tuple[str, str] | None:
        """A question and unit tests are needed."""
        if not self.question(row).strip():
            return "prompt", "it has no user's message; give it one or drop the row"
        tests = _tests(row)
        return ("reward_model.ground_truth", tests) if isinstance(tests, str) else None

    def checking(self) -> AbstractContextManager[Check]:
        """Tests are not run here."""
        return nullcontext(all_usable)

    def example(self, task: str, row: Row) -> Example:
        """The problem with its tests."""
        tests = _tests(row)
        assert isinstance(tests, UnitTests)  # ``defect`` lets no other row through
        return Example(task, self.uid(row), self.question(row), tests)


def _tests(row: Row) -> UnitTests | str:
    """The unit tests of a row, or what is wrong with them and the cure."""
    try:
        tests = parse_tests(json.loads(row["reward_model"]["ground_truth"]) | {"entry_point": row["entry_point"]})
    except (ValueError, TypeError, KeyError) as error:
        return f"it is not the JSON of unit tests ({error}); drop the row"
    if not tests.functional.strip() and not tests.inputs:
        return "it has no tests, so that any program would pass; give it some or drop the row"
    return tests
