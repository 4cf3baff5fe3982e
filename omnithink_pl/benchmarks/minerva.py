"""Minerva: quantitative problems of undergraduate science courses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.rewards.expression import as_power_of_ten
from omnithink_pl.types import Example


@final
class Minerva(BenchmarkSource):
    r"""math-ai/minervamath, split ``test``, 272 rows (OCWCourses of Lewkowycz et al. 2022).

    A row: ``{"question": "Each of the two Magellan telescopes ...", "answer": "7e-8"}``. An older copy has columns
    ``problem`` and ``solution`` with the gold in ``\boxed``: it is refused. The ``minerva_math`` of lm-eval is
    another benchmark (MATH). Golds such as ``7e-8`` are read as powers of ten, and so are answers to them. Many golds
    are rounded; they are compared as math-verify does, which knows no tolerance of the source's.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "math-ai/minervamath"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    size: ClassVar[int] = 272

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem with its gold; rows have no identity but their place."""
        return Example(task, str(index), row["question"], as_power_of_ten(str(row["answer"] or "").strip()))
