"""MATH-500: a sample of the MATH test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.types import Example


@final
class Math500(BenchmarkSource):
    r"""HuggingFaceH4/MATH-500, split ``test``, 500 rows (Lightman et al. 2023; MATH is Hendrycks et al. 2021, MIT).

    A row: ``{"problem": "Convert the point $(0,3)$ ...", "solution": "...", "answer": "\left( 3, \frac{\pi}{2}
    \right)", "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"}``. Subjects are reported.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "HuggingFaceH4/MATH-500"
    columns: ClassVar[tuple[str, ...]] = ("unique_id", "subject", "problem", "answer")
    size: ClassVar[int] = 500

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold."""
        answer = str(row["answer"] or "").strip()
        return Example(task, row["unique_id"], row["problem"], answer, category=row["subject"] or "")
