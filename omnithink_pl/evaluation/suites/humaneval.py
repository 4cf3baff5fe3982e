"""HumanEval: functions to complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.errors import BadInput
from omnithink_pl.evaluation.suites.base import BenchmarkSource
from omnithink_pl.types import Example, UnitTests


@final
class HumanEval(BenchmarkSource):
    r"""openai/openai_humaneval (MIT), split ``test``, 164 rows (Chen et al. 2021). Not in the paper.

    A row: ``{"task_id": "HumanEval/0", "prompt": "from typing import List\n\n\ndef ...", "canonical_solution": "    for
    ...", "test": "def check(candidate): ...", "entry_point": "has_close_elements"}``. The answer is the whole
    function. As in BigCodeBench's calibrated runs, the prompt with an empty body stands before it, so that imports
    and helpers of the prompt are there.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "openai/openai_humaneval"
    columns: ClassVar[tuple[str, ...]] = ("task_id", "prompt", "test", "entry_point")
    size: ClassVar[int] = 164

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The function to complete with its tests."""
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
