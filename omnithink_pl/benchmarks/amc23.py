"""AMC 2023: forty problems of a competition, without their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.types import Example


@final
class AMC23(BenchmarkSource):
    """math-ai/amc23, split ``test``, 40 rows. AI-MO/aimo-validation-amc, with 83 rows, is another set.

    A row: ``{"problem": "Cities $A$ and $B$ are ...", "answer": 27.0, "question": "...", "url": "..."}``. The answer
    is a float, or its text, and a whole number.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "math-ai/amc23"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 40

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its number; 27.0 is 27."""
        answer = str("" if row["answer"] is None else row["answer"]).strip()
        return Example(task, str(index), row["question"], answer.removesuffix(".0"))
