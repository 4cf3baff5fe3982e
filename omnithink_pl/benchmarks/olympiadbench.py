"""OlympiadBench: competition problems with a final answer, the part in English, mathematics and text only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from omnithink_pl.benchmarks.base import BenchmarkSource
from omnithink_pl.errors import BadInput
from omnithink_pl.types import Example


@final
class OlympiadBench(BenchmarkSource):
    """Hothan/OlympiadBench (Apache-2.0), configuration ``OE_TO_maths_en_COMP``, split ``train``, 674 rows.

    A row: ``{"id": 1606, "question": "Let $T$ be ...", "context": null, "final_answer": ["2"], "is_multiple_answer":
    false, "answer_type": "Numerical", "unit": null, "error": null, ...}``. ``final_answer`` is a list of one text;
    where there are several answers they stand in it, joined by commas, and are compared as a set. Some copies have
    675 rows. The authors' own judge grants the tolerance ``error`` where a row has one; here it is not granted.

    Args:
        path: A local file or directory, or a hub id; the benchmark's own if not given.
        revision: Of a hub id.
    """

    version: ClassVar[str] = "1"
    hub: ClassVar[str] = "Hothan/OlympiadBench"
    config: ClassVar[str | None] = "OE_TO_maths_en_COMP"
    hub_split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("id", "question", "context", "final_answer")
    size: ClassVar[int] = 674

    def example(self, task: str, index: int, row: Mapping[str, Any]) -> Example:
        """The problem, behind its context if it has one, with all its answers."""
        answers = row["final_answer"]
        if not isinstance(answers, list) or len(answers) != 1:
            raise BadInput(
                f"{self.named}: row {index} (id {row['id']}): 'final_answer' is {answers!r} and not a list of one "
                f"text; take the configuration {self.config}"
            )
        question = f"{row['context']}\n{row['question']}" if row["context"] else row["question"]
        return Example(task, str(row["id"]), question, str(answers[0] or "").strip())
