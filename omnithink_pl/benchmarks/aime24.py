"""AIME 2024: thirty problems of a competition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.types import Example


@final
class AIME24(BenchmarkSource):
    """HuggingFaceH4/aime_2024 (Apache-2.0), split ``train``, 30 rows.

    A row: ``{"id": 60, "problem": "Every morning Aya goes ...", "solution": "...", "answer": "204", "url": "...",
    "year": "2024"}``. Answers are whole numbers from 0 to 999, some with leading zeros.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "HuggingFaceH4/aime_2024"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("id", "problem", "answer")
    size: ClassVar[int] = 30

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its number."""
        return Example(task, str(row["id"]), row["problem"], str(row["answer"] or "").strip())
