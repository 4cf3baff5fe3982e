"""OpenR1-Math: word problems with a gold answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from omnithink_pl.embedded import math
from omnithink_pl.sources.base import Source, Split
from omnithink_pl.sources.rows import load_rows, unusable
from omnithink_pl.types import Example

if TYPE_CHECKING:
    from omnithink_pl.sources.rows import Row

WORD_PROBLEM = "math-word-problem"
COLUMNS = ("uuid", "problem", "answer", "question_type")


@final
class OpenR1Math(Source):
    """open-r1/OpenR1-Math-220k (Apache-2.0), or miniature rows of its shape.

    A row: ``{"problem": "Mia has 5 pens. ...", "solution": "...", "answer": "17", "problem_type": "Algebra",
    "question_type": "math-word-problem", "source": "olympiads", "uuid": "586fd646-...",
    "is_reasoning_complete": [true], "generations": ["<think>..."], "correctness_math_verify": [true],
    "correctness_llama": [true], "finish_reasons": ["stop"], "correctness_count": 1, "messages": [...]}``.
    Only word problems are kept; multiple choice, proofs and others are not.

    Args:
        path: ``embedded``, a local file or directory, or a hub id.
    """

    def __init__(self, path: str = "embedded") -> None:
        self.path = path

    def examples(self, task: str, split: Split) -> list[Example]:
        """Every word problem of a split.

        Raises:
            BadInput: If a row has no answer.
        """
        rows = load_rows(self.path, split, COLUMNS, math.rows, lambda row: str(row["uuid"]))
        return [
            self._example(task, index, row) for index, row in enumerate(rows) if row["question_type"] == WORD_PROBLEM
        ]

    def _example(self, task: str, index: int, row: Row) -> Example:
        answer = str(row["answer"] or "").strip()
        if not answer:
            cure = "drop the row or fill in the gold answer"
            raise unusable(f"OpenR1Math({self.path})", index, row["uuid"], "answer", cure)
        return Example(task, str(row["uuid"]), row["problem"], answer)
