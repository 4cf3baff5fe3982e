"""code-r1: programming problems with unit tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, final

from omnithink_pl.embedded import code
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.rows import load_rows, unusable
from omnithink_pl.types import Example, UnitTests

if TYPE_CHECKING:
    from omnithink_pl.sources.rows import Row

COLUMNS = ("task_id", "prompt", "entry_point", "reward_model")


@final
class CodeR1(Source):
    r"""ganler/code-r1-12k (no licence declared), or miniature rows of its shape.

    A row: ``{"task_id": "...", "prompt": [{"role": "system", ...}, {"role": "user", "content": "Write f(x)..."}],
    "entry_point": "f", "test": "...", "completion": "...", "examples": [{"input": "3", "output": "8"}],
    "src": "leetcode", "meta": {...}, "data_source": "code", "ability": "coding",
    "reward_model": {"ground_truth": "{\"functional\": \"def check(candidate): ...\"}", "style": "rule"},
    "extra_info": {"dataset": "...", "index": 0, "prompt": "...", "reference": "...", "split": "train"}}``.
    ``ground_truth`` is JSON: ``functional`` asserts, or ``inputs`` and ``outputs`` of a program.
    The row's own system prompt is dropped in favour of the task's.

    Args:
        path: ``embedded``, a local file or directory, or a hub id.
    """

    def __init__(self, path: str = "embedded") -> None:
        self.path = path

    def examples(self, task: str, split: Split) -> list[Example]:
        """Every problem of a split.

        Raises:
            BadInput: If a row has no unit tests.
        """
        rows = load_rows(self.path, split, COLUMNS, code.rows, lambda row: str(row["task_id"]))
        return [self._example(task, index, row) for index, row in enumerate(rows)]

    def _example(self, task: str, index: int, row: Row) -> Example:
        tests = self._tests(index, row)
        questions = [message["content"] for message in row["prompt"] if message["role"] == "user"]
        return Example(task, str(row["task_id"]), "\n".join(questions), tests)

    def _tests(self, index: int, row: Row) -> UnitTests:
        source, column = f"CodeR1({self.path})", "reward_model.ground_truth"
        try:
            truth = json.loads(row["reward_model"]["ground_truth"])
        except json.JSONDecodeError as error:
            raise unusable(source, index, row["task_id"], column, f"it is no JSON ({error}); drop the row") from error
        tests = UnitTests(
            inputs=tuple(truth.get("inputs", ())),
            outputs=tuple(truth.get("outputs", ())),
            functional=truth.get("functional", ""),
            entry_point=row["entry_point"] or "",
        )
        if not tests.functional and not (tests.inputs and len(tests.inputs) == len(tests.outputs)):
            cure = "it needs 'functional' asserts, or as many 'inputs' as 'outputs'; drop the row"
            raise unusable(source, index, row["task_id"], column, cure)
        return tests
