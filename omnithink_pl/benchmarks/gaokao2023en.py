"""Gaokao 2023 in English: mathematics of the Chinese university entrance exams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.types import Example


@final
class Gaokao2023EN(BenchmarkSource):
    """MARIO-Math-Reasoning/Gaokao2023-Math-En, split ``train``, 385 rows.

    A row: ``{"question": "If set $A=...", "answer": "$-1$", "source": "...", "lang": "en"}``. The answer often stands
    between dollar signs. Two golds are empty or cannot be used; published scores are shares of all 385 rows, so the
    two stay in and count 0.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "MARIO-Math-Reasoning/Gaokao2023-Math-En"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 385
    without_gold: ClassVar[int] = 2

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold; rows have no identity but their place."""
        return Example(task, str(index), row["question"], str(row["answer"] or "").strip())
